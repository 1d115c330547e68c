package journal

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dcshealer/policies"
)

// firstFormat makes a file as the first release made it, with a failed record, a pause and a decision in it.
func firstFormat(t *testing.T) (dir string) {
	t.Helper()
	dir, ctx := t.TempDir(), t.Context()
	must(t, prepare(dir))
	path := filepath.Join(dir, fileName)
	must(t, createPrivate(path))
	j := &Journal{dir: dir, op: oper, held: map[string]bool{}, write: connect(path, 1, "_txlock=immediate")}
	must(t, migrate(ctx, j.write, migrations[:1]))
	unlock, err := j.Lock(ctx, "dcs-1")
	must(t, err)
	defer unlock()
	a, b := decision("dcs-1", t0), decision("dcs-2", t0)
	a.ID, a.Outcome, b.ID = "A", "", "B"
	_, err = j.Begin(ctx, a)
	must(t, err)
	must(t, j.Command(ctx, "A", policies.CommandRecord{Args: []string{"REPLICAOF"}, At: t0}))
	must(t, j.Finish(ctx, "A", Result{Outcome: policies.OutcomeFailed, Finished: t0}))
	must(t, j.SetPause(ctx, Pause{Instance: "dcs-1", Reason: "r", By: "ann", At: t0}))
	_, err = j.Begin(ctx, b)
	must(t, err)
	must(t, j.write.Close())
	return dir
}

func TestAFileOfTheFirstFormatIsBroughtForward(t *testing.T) {
	t.Parallel()
	dir, ctx := firstFormat(t), t.Context()
	old, err := OpenReadOnly(ctx, dir) // also before anybody migrates it
	must(t, err)
	if v, err := old.Verify(ctx); err != nil || !v.OK || v.Entries != 5 {
		t.Errorf("not migrated: verify %+v, %v", v, err)
	}
	must(t, old.Close())

	j := open(t, dir)
	all, err := j.List(ctx, Filter{})
	must(t, err)
	if len(all) != 2 || all[0].ID != "B" || all[1].ID != "A" || all[1].Outcome != policies.OutcomeFailed || len(all[1].Commands) != 1 {
		t.Errorf("records %+v", all)
	}
	if _, paused, err := j.Paused(ctx, "dcs-1", t0); err != nil || !paused {
		t.Errorf("paused %v, %v", paused, err)
	}
	must(t, j.Owe(ctx, Debt{Instance: "dcs-1", Node: "n1", Setting: "s"}))
	must(t, j.OpenIncident(ctx, policies.Incident{ID: "i1", Instance: "dcs-1", Opened: t0}))
	must(t, j.Pulse(ctx, t0, 10))
	if v, err := j.Verify(ctx); err != nil || !v.OK || v.Entries != 6 {
		t.Errorf("verify %+v, %v", v, err)
	}
}

func TestAFailingMigrationLeavesTheFileAsItWas(t *testing.T) {
	t.Parallel()
	dir, ctx := firstFormat(t), t.Context()
	dump := func() string {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, fileName)+"?mode=ro")
		must(t, err)
		defer db.Close()
		var version, schema, rows string
		must(t, db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version))
		must(t, db.QueryRowContext(ctx, "SELECT group_concat(coalesce(sql, name)) FROM (SELECT * FROM sqlite_schema ORDER BY name)").Scan(&schema))
		must(t, db.QueryRowContext(ctx, "SELECT group_concat(seq || hash) FROM entries").Scan(&rows))
		return version + schema + rows
	}
	before := dump()
	db := connect(filepath.Join(dir, fileName), 1, "_txlock=immediate")
	steps := append(append([]string{}, migrations[:]...), "CREATE TABLE late (x); CREATE TABLE entries (x);")
	err := migrate(ctx, db, steps)
	must(t, db.Close())
	if err == nil || !strings.Contains(err.Error(), "stays as it was") {
		t.Errorf("migrate: %v, want that the file stays as it was", err)
	}
	if after := dump(); after != before {
		t.Errorf("the file is now\n%s\nand was\n%s", after, before)
	}
	if _, err := os.Stat(filepath.Join(dir, fileName)); err != nil {
		t.Error(err)
	}
	if v, err := open(t, dir).Verify(ctx); err != nil || !v.OK { // and a release without the fault brings it forward
		t.Errorf("verify %+v, %v", v, err)
	}
}
