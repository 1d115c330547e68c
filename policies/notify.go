package policies

import (
	"fmt"
	"slices"
	"time"
)

// NoticeKind says what a notification is about.
type NoticeKind string

// The kinds, the most urgent first.
const (
	NoticeAlarm    NoticeKind = "alarm"    // a critical alarm fires
	NoticeRefusal  NoticeKind = "refusal"  // nothing is repaired until a person acts
	NoticeReminder NoticeKind = "reminder" // an alarm still stands, and nobody has taken it
	NoticeRepair   NoticeKind = "repair"   // an action has come to its outcome
	NoticeResolved NoticeKind = "resolved" // a critical alarm has ended
	NoticeTest     NoticeKind = "test"
)

// NoticeKinds lists those that a receiver can ask for, the most urgent first.
var NoticeKinds = [...]NoticeKind{NoticeAlarm, NoticeRefusal, NoticeReminder, NoticeRepair, NoticeResolved}

// NotifyConfig says whom the role dba tells beside its console, and at what pace.
type NotifyConfig struct {
	Receivers []Receiver
	Group     time.Duration // how long the first event waits for others
	Gap       time.Duration // the least between two notices to a receiver
	Remind    time.Duration // between two reminders of an alarm; 0: none
	GiveUp    time.Duration // a notice that is older and fails is dead
}

// Receiver is one place that notices go to.
type Receiver struct {
	Name        string
	Webhook     bool         // URL is http or https; else it is one of shoutrrr
	URL         Secret       // may hold passwords and tokens
	URLFile     string       // where URL was read; empty: it came from elsewhere
	HMACKeyFile string       // of a webhook; empty: its notices are not signed
	HMACKeys    []Secret     // of it: each signs
	Events      []NoticeKind // empty: all
	Instances   []string     // empty: all
	Title       string       // text/template; empty: ours
	Template    string       // text/template of the text; empty: ours
}

// Wants reports whether the receiver is told of such an event of an instance.
func (r Receiver) Wants(k NoticeKind, instance string) bool {
	return (len(r.Events) == 0 || slices.Contains(r.Events, k)) && (len(r.Instances) == 0 || slices.Contains(r.Instances, instance))
}

// Receiver finds a receiver by name.
func (n NotifyConfig) Receiver(name string) (Receiver, bool) {
	i := slices.IndexFunc(n.Receivers, func(r Receiver) bool { return r.Name == name })
	if i < 0 {
		return Receiver{}, false
	}
	return n.Receivers[i], true
}

// MaxReceivers bounds what one event is copied to.
const MaxReceivers = 100

func (r *rules) notify(c Config) {
	n := c.Notify
	r.check(len(n.Receivers) <= MaxReceivers, "notify.receivers", len(n.Receivers), fmt.Sprintf("at most %d receivers", MaxReceivers))
	names := holders{}
	for i, to := range n.Receivers {
		path := fmt.Sprintf("notify.receivers[%d]", i)
		r.check(validName(to.Name), path+".name", to.Name, NameRule)
		r.single(names, to.Name, path+".name", to.Name, "a name that no other receiver has")
		for j, name := range to.Instances {
			at := fmt.Sprintf("%s.instances[%d]", path, j)
			_, ok := c.Instance(name)
			r.check(ok || name == SelfInstance, at, name, fmt.Sprintf("the name of an instance of this file: %s; or %s, for alarms about a healer itself", c.InstanceNames(), SelfInstance))
			r.once(path+".instances", j, slices.Index(to.Instances, name), name, "each instance once")
		}
		for j, k := range to.Events {
			r.once(path+".events", j, slices.Index(to.Events, k), k, "each kind of event once")
		}
	}
	r.check(n.Group >= 0 && n.Group <= 10*time.Minute, "notify.group", n.Group, "from 0s to 10m: a person waits so long for the first word")
	r.check(n.Gap >= 0 && n.Gap <= time.Hour, "notify.gap", n.Gap, "from 0s to 1h: a person waits so long for the next word")
	r.check(n.Remind == 0 || n.Remind >= time.Second, "notify.remind", n.Remind, "at least 1s (or 0: no reminders)")
	r.check(n.GiveUp >= time.Minute, "notify.give_up", n.GiveUp, "at least 1m")
}

// once notes a fault where an element of a list stands in it before.
func (r *rules) once(path string, i, first int, got any, want string) {
	if first < i {
		r.check(false, fmt.Sprintf("%s[%d]", path, i), got, want, fmt.Sprintf("%s[%d]", path, first))
	}
}

func (n NotifyConfig) settings(s *settings) *settings {
	for _, to := range n.Receivers {
		r := &settings{path: JoinPath(s.path+".receivers", to.Name)}
		r.hide("url", to.URL)
		if to.Webhook {
			r.put("webhook", true)
		}
		if len(to.HMACKeys) > 0 {
			r.hide("hmac_keys", joined(to.HMACKeys))
		}
		if len(to.Events) > 0 {
			r.put("events", listText(to.Events))
		}
		if len(to.Instances) > 0 {
			r.put("instances", to.Instances)
		}
		for _, t := range [][2]string{{"url_file", to.URLFile}, {"hmac_key_file", to.HMACKeyFile}, {"title", to.Title}, {"template", to.Template}} {
			if t[1] != "" {
				r.put(t[0], t[1])
			}
		}
		s.take(r)
	}
	s.put("group", n.Group)
	s.put("gap", n.Gap)
	s.put("remind", n.Remind)
	s.put("give_up", n.GiveUp)
	return s
}
