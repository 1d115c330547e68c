package main

import (
	"bytes"
	"strings"

	"dcshealer/agent/observer/notify"
	"dcshealer/policies"
)

// notify reads whom to tell beside the console.
func (d *configDecoder) notify(m *fileMapping, to *policies.NotifyConfig) {
	m.list("receivers", "a list, each receiver starting with a dash: - {name: on-call, url_file: on-call.url}", func(v fileValue) {
		to.Receivers = append(to.Receivers, d.receiver(v))
	})
	m.duration("group", &to.Group)
	m.duration("gap", &to.Gap)
	m.duration("remind", &to.Remind)
	m.duration("give_up", &to.GiveUp)
	m.end()
}

func (d *configDecoder) receiver(v fileValue) (r policies.Receiver) {
	m := d.secretMapping(v, "a receiver: a mapping with name, and url_file or webhook")
	if d.unread[v.path] {
		return r
	}
	m.text("name", &r.Name, policies.NameRule)
	before := len(d.faults)
	at := d.receiverURL(m, "SERVICE://..., as shoutrrr has it, such as smtp://USER:PASSWORD@HOST:587/?from=A&to=B", &r)
	if w, ok := m.take("webhook"); ok {
		r.Webhook = true
		if at.path != "" {
			d.refuse(w, "a webhook beside a URL of shoutrrr", true, "one of the two")
		}
		s := d.secretMapping(w, "a webhook: a mapping with url, url_file or url_env")
		at = d.receiverURL(s, "https://HOST[:PORT]/PATH", &r)
		s.text("hmac_key_file", &r.HMACKeyFile, "the name of a file that holds a key a line, each signs")
		if key, ok := s.take("hmac_key_file"); ok && !d.unread[key.path] {
			r.HMACKeyFile, r.HMACKeys = d.keyFile(key, r.HMACKeyFile)
			if _, err := notify.NewWebhook("https://host", r.HMACKeys...); err != nil {
				d.wrong(key, "keys that sign: "+r.HMACKeyFile+": "+err.Error())
			}
		}
		s.end()
		if at.path == "" && len(d.faults) == before {
			d.refuse(w, "a webhook without a URL", true, "one of url, url_file, url_env in it")
		}
	}
	if at.path == "" && !r.Webhook && len(d.faults) == before {
		d.refuse(v, "a receiver without a URL", true, "one of url, url_file, url_env, webhook in it")
	}
	if len(d.faults) == before {
		if _, err := notify.NewSender(r); err != nil {
			d.refuse(at, "a URL that the receiver "+r.Name+" cannot use", true, "one that it can: "+err.Error())
		}
	}
	m.list("events", "a list of events such as [alarm, refusal]; leave the key out for all", func(v fileValue) {
		r.Events = append(r.Events, readWord(d, v, policies.NoticeKinds[:]...))
	})
	m.texts("instances", "the name of an instance", &r.Instances)
	d.template(m, &r)
	m.end()
	return r
}

// secretMapping is a mapping that people write a URL in place of, which an error must not show.
func (d *configDecoder) secretMapping(v fileValue, want string) *fileMapping {
	if _, text := v.text(); text {
		d.refuse(v, "a text", true, want)
		v.node = nil
	}
	return d.mapping(v, want)
}

// receiverURL reads the one of url, url_file and url_env that there is, and returns where it stands.
func (d *configDecoder) receiverURL(m *fileMapping, want string, r *policies.Receiver) (at fileValue) {
	var file, env, text string
	m.text("url_file", &file, "the name of a file that holds the URL and nothing else: "+want)
	m.text("url_env", &env, "the name of an environment variable that holds the URL: "+want)
	if v, ok := m.take("url"); ok {
		at = v
		var is bool
		if text, is = v.text(); !is || text == "" {
			d.refuse(v, "no text", true, want)
		}
	}
	for _, key := range []string{"url_file", "url_env"} {
		v, ok := m.take(key)
		switch {
		case !ok:
		case at.path != "":
			d.refuse(v, key+" beside another URL", true, "one of url, url_file, url_env")
		default:
			at = v
		}
	}
	switch {
	case at.path == "" || d.unread[at.path]:
	case strings.Contains(file, "://"):
		d.refuse(at, "a URL", true, "the name of a file that holds it; or url in place of url_file")
	case file != "":
		r.URLFile = d.absolute(file)
		r.URL = d.urlFile(at, r.URLFile)
	case env != "":
		r.URL = d.urlEnv(at, env)
	default:
		r.URL = policies.Secret(text)
	}
	return at
}

func (d *configDecoder) urlFile(v fileValue, name string) policies.Secret {
	data, err := d.readFile(name)
	if err != nil {
		d.wrong(v, "a file that can be read: "+name+": "+plainCause(err))
		return ""
	}
	to, err := policies.ParseSecret(bytes.TrimRight(data, " \t\r\n"))
	if err != nil {
		d.wrong(v, "a file that holds the URL and nothing else: "+name+" "+err.Error())
	}
	return to
}

// urlEnv shows only what looks like a variable's name: people write the URL itself there.
func (d *configDecoder) urlEnv(v fileValue, name string) policies.Secret {
	if !envName.MatchString(name) {
		d.refuse(v, "something that is no variable's name", true, "the name of the environment variable that holds the URL")
		return ""
	}
	to, set := d.lookupEnv(name)
	if !set || to == "" {
		d.wrong(v, "an environment variable that is set and not empty")
	}
	return policies.Secret(to)
}

// template reads the texts that a receiver wants in place of ours.
func (d *configDecoder) template(m *fileMapping, r *policies.Receiver) {
	m.text("title", &r.Title, `a text/template of one line, such as "{{len .Events}} events"`)
	if v, ok := m.take("template"); ok {
		if text, is := v.text(); is && strings.TrimSpace(text) != "" {
			r.Template = text
		} else {
			d.wrong(v, "a text/template, such as {{.Text}}")
		}
	}
	for key, text := range map[string][2]string{"title": {r.Title, ""}, "template": {"", r.Template}} {
		v, ok := m.take(key)
		if !ok || d.unread[v.path] {
			continue
		}
		if _, err := notify.ParseTemplate(text[0], text[1]); err != nil {
			d.wrong(v, "a text/template that can write every notice: "+policies.Printable(err.Error(), 300))
		}
	}
}
