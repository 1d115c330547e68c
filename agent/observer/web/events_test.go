package web

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// listenTo opens the events of a server that listens, and gives their lines.
func listenTo(t *testing.T, base, last string) *bufio.Scanner {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", base+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Body.Close() })
	if kind := w.Header.Get("Content-Type"); w.StatusCode != 200 || kind != "text/event-stream" {
		t.Fatalf("%d %s", w.StatusCode, kind)
	}
	return bufio.NewScanner(w.Body)
}

// next is the next event that is no pulse, as ID, kind and data.
func next(t *testing.T, lines *bufio.Scanner) (id, kind, data string) {
	t.Helper()
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case name == "id":
			id = value
		case name == "event":
			kind = value
		case name == "data":
			data = value
		case name == "" && kind == "pulse":
			kind, data = "", ""
		case name == "" && kind != "":
			return id, kind, data
		}
	}
	t.Fatalf("the events ended: %v", lines.Err())
	return "", "", ""
}

func TestEventsComeLiveAreReplayedAndEndWithTheServer(t *testing.T) {
	g := newRig(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- g.Serve(ctx, l) }()
	base := "http://" + l.Addr().String()

	lines := listenTo(t, base, "")
	if err := g.Publish("alarm", map[string]string{"msg": "a\nb\n\nevent: forged"}); err != nil {
		t.Fatal(err)
	}
	id, kind, data := next(t, lines)
	if kind != "alarm" || data != `{"msg":"a\nb\n\nevent: forged"}` {
		t.Errorf("%s %s", kind, data)
	}
	_ = g.Publish("state", 2)
	if _, kind, data = next(t, lines); kind != "state" || data != "2" {
		t.Errorf("%s %s", kind, data)
	}
	again := listenTo(t, base, id)
	if _, kind, data = next(t, again); kind != "state" || data != "2" {
		t.Errorf("replayed after %s: %s %s", id, kind, data)
	}
	stop()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	for lines.Scan() {
	}
}

func TestALiveConnectionHasAPulseAndKeepsTheLastID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		ctx, hangUp := context.WithCancel(t.Context())
		w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "http://127.0.0.1/api/v1/events", nil)
		ended := make(chan bool)
		go func() { g.ServeHTTP(w, r); close(ended) }()
		time.Sleep(3*pulseEvery + pulseEvery/2)
		hangUp()
		<-ended
		pulses := regexp.MustCompile(`(?m)^event: pulse\ndata: \{"at":"[^"]+Z"\}\n$`).FindAllString(w.Body.String(), -1)
		if len(pulses) != 4 || strings.Contains(w.Body.String(), "id:") {
			t.Errorf("%d pulses in %s, want one at once and 3 more:\n%s", len(pulses), 3*pulseEvery+pulseEvery/2, w.Body)
		}
	})
}

func TestASlowReaderIsCutOffAndHoldsUpNobody(t *testing.T) {
	h := newHub()
	_, slow, err := h.join(0)
	if err != nil {
		t.Fatal(err)
	}
	for range readerRoom + 10 {
		h.send("alarm", []byte("1"))
	}
	n := 0
	for range slow {
		n++
	}
	if n != readerRoom || len(h.readers) != 0 {
		t.Errorf("%d events for the slow one, %d readers left", n, len(h.readers))
	}
	if len(h.recent) != replay {
		t.Errorf("%d events are kept, want %d", len(h.recent), replay)
	}
	for range maxReaders {
		if _, _, err := h.join(0); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := h.join(0); err == nil {
		t.Error("readers are not bounded")
	}
	h.close()
	if _, _, err := h.join(0); err == nil {
		t.Error("one may join after the end")
	}
}
