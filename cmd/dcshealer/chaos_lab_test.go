package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/client"
	tc "github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/wait"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

const (
	chaosDefaultImage = "redis:7.2-alpine"
	chaosNetTools     = "dcshealer-test/nettools:1"
	chaosUser         = 65532 // of the operator, as in the image that is shipped
)

// chaosLabels are on every container, network and image, to be swept by.
var chaosLabels = map[string]string{"dcshealer-test": "1"}

// chaosLab is what the scenarios share: the engine, and the images that they run.
type chaosLab struct {
	cli      *tc.DockerClient
	image    string   // of the servers
	debug    []string // what a server takes to allow DEBUG
	acl      policies.ACLLine
	operator string // the operator's image
	subnets  atomic.Int32
}

// newChaosLab finds the engine and makes the images; without an engine the tests are skipped.
func newChaosLab(t *testing.T) *chaosLab {
	t.Helper()
	if testing.Short() {
		t.Skip("chaos tests need a container engine and a minute: skipped under -short")
	}
	chaosEnvironment(t)
	tclog.SetDefault(tclog.NewNoopLogger()) // it would tell of each container's every step
	l := &chaosLab{image: os.Getenv("REDIS_IMAGE")}
	if l.image == "" {
		l.image = chaosDefaultImage
	}
	l.subnets.Store(int32(os.Getpid()))
	if err := l.connect(t.Context()); err != nil {
		redistest.Missing(t, fmt.Sprintf("no container engine answers (%v): run .ci/setup engine", err))
	}
	t.Cleanup(func() { _ = l.cli.Close() })
	l.readVersion(t)
	l.buildOperator(t)
	return l
}

// chaosEnvironment sets what .ci/test would, where it was not: with an engine on this host ports are published on the
// loopback, and the reaper's image may be out of reach.
func chaosEnvironment(t *testing.T) {
	if host := os.Getenv("DOCKER_HOST"); host != "" && !strings.HasPrefix(host, "unix://") {
		return
	}
	for name, value := range map[string]string{"TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1", "TESTCONTAINERS_RYUK_DISABLED": "true"} {
		if os.Getenv(name) == "" {
			t.Setenv(name, value)
		}
	}
}

func (l *chaosLab) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cli, err := tc.NewDockerClientWithOpts(ctx)
	if err != nil {
		return err
	}
	if _, err := cli.Ping(ctx, client.PingOptions{}); err != nil {
		return errors.Join(err, cli.Close())
	}
	l.cli = cli
	return nil
}

var chaosVersion = regexp.MustCompile(`v=((\d+)\.\d+)`)

// readVersion asks the server which it is: 6.0 allows DEBUG to all and does not know the option that later ones want.
func (l *chaosLab) readVersion(t *testing.T) {
	t.Helper()
	c, err := tc.Run(t.Context(), l.image, tc.WithCmd("sh", "-c", "redis-server --version"), tc.WithLabels(chaosLabels),
		tc.WithWaitStrategyAndDeadline(30*time.Second, wait.ForExit().WithPollInterval(50*time.Millisecond)))
	tc.CleanupContainer(t, c, tc.StopTimeout(0))
	if err != nil {
		t.Fatalf("run a server of %s: %v", l.image, err)
	}
	text := l.logs(t, c)
	v := chaosVersion.FindStringSubmatch(text)
	if v == nil {
		t.Fatalf("redis-server --version of %s answered %q", l.image, text)
	}
	if l.acl, err = policies.ParseACLLine(v[1]); err != nil {
		t.Fatal(err)
	}
	if v[2] != "6" {
		l.debug = []string{"--enable-debug-command", "yes"}
	}
	t.Logf("servers: %s, %s", l.image, strings.TrimSpace(text))
}

// buildOperator makes an image of nothing but the static program and its state_dir.
func (l *chaosLab) buildOperator(t *testing.T) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "dcshealer")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the operator: %v\n%s", err, out)
	}
	image, err := l.importImage(t.Context(), binary)
	if err != nil {
		t.Fatalf("make the operator's image: %v", err)
	}
	l.operator = image
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := l.cli.ImageRemove(ctx, image, client.ImageRemoveOptions{Force: true}); err != nil {
			t.Logf("remove the operator's image %s: %v", image, err)
		}
	})
}

func (l *chaosLab) importImage(ctx context.Context, binary string) (string, error) {
	data, err := os.ReadFile(binary)
	if err != nil {
		return "", err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err = errors.Join(
		w.WriteHeader(&tar.Header{Name: "state/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: chaosUser, Gid: chaosUser}),
		w.WriteHeader(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}),
		w.WriteHeader(&tar.Header{Name: "dcshealer", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(data))}),
	)
	if _, werr := w.Write(data); errors.Join(err, werr, w.Close()) != nil {
		return "", errors.Join(err, werr)
	}
	name := fmt.Sprintf("dcshealer-test/operator:%d", os.Getpid())
	reply, err := l.cli.ImageImport(ctx, client.ImageImportSource{Source: &buf, SourceName: "-"}, name, client.ImageImportOptions{
		Changes: []string{`ENTRYPOINT ["/dcshealer"]`, fmt.Sprintf("USER %d:%[1]d", chaosUser), "LABEL dcshealer-test=1"},
	})
	if err != nil {
		return "", err
	}
	defer reply.Close()
	return name, importError(reply)
}

// importError reads the engine's answer to its end: the image is there only then.
func importError(reply io.Reader) error {
	for dec := json.NewDecoder(reply); ; {
		var line struct{ Error string }
		switch err := dec.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case line.Error != "":
			return errors.New(line.Error)
		}
	}
}
