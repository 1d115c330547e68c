package main

import (
	"testing"

	"dcshealer/agent/observer/notify"
	"dcshealer/policies"
)

func TestAnAcknowledgedIncidentEndsTheRemindersOfItsOwnAlarm(t *testing.T) {
	ack := &policies.Ack{}
	first := policies.Incident{ID: "first", Metric: policies.MetricReplication, Node: "dcs-slave-01", Ack: ack}
	second := policies.Incident{ID: "second", Metric: policies.MetricReplication, Node: "dcs-slave-02"}
	for _, tt := range []struct {
		name, node string
		open       []policies.Incident
		want       string
		taken      bool
	}{
		{"its own, taken", "dcs-slave-01", []policies.Incident{second, first}, "first", true},
		{"its own, beside one of another node that is taken", "dcs-slave-02", []policies.Incident{first, second}, "second", false},
		{"none of its own: one of its metric", "", []policies.Incident{second, first}, "first", true},
		{"none", "dcs-slave-01", nil, "", false},
	} {
		got, taken := incidentOf(notify.Event{Metric: policies.MetricReplication, Node: tt.node}, tt.open)
		if got != tt.want || taken != tt.taken {
			t.Errorf("%s: got %q, %v; want %q, %v", tt.name, got, taken, tt.want, tt.taken)
		}
	}
}

func TestTheNoteOfManyReceiversStaysShort(t *testing.T) {
	var r notifyReport
	for _, name := range []string{"a", "b", "c"} {
		r.Receivers = append(r.Receivers, receiverRow{Account: notify.Account{Receiver: name, Pending: 1}})
	}
	if got, want := r.note(), "notifications: a: 1 pending; b: 1 pending; c: 1 pending; see dcshealer notify list"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	r.Receivers = append(r.Receivers, receiverRow{Account: notify.Account{Receiver: "well"}}, receiverRow{Account: notify.Account{Receiver: "d", Dead: 2}})
	if got, want := r.note(), "notifications: a: 1 pending; b: 1 pending; c: 1 pending; 1 more; see dcshealer notify list"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
