package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"time"
)

//go:embed static openapi.yaml index.html
var files embed.FS

// page serves the page and its files. They show nothing of the fleet: what they show comes from the API.
func (s *Server) page(mux *http.ServeMux) error {
	t, err := template.ParseFS(files, "index.html")
	if err != nil {
		return fmt.Errorf("dashboard: %w", err)
	}
	var index bytes.Buffer
	if err := t.Execute(&index, map[string]string{"Version": s.opt.Version}); err != nil {
		return fmt.Errorf("dashboard: %w", err)
	}
	mux.HandleFunc("GET /{$}", fixed("index.html", index.Bytes()))
	list, err := fs.ReadDir(files, "static")
	if err != nil {
		return fmt.Errorf("dashboard: %w", err)
	}
	for _, f := range list {
		data, err := files.ReadFile(path.Join("static", f.Name()))
		if err != nil {
			return fmt.Errorf("dashboard: %w", err)
		}
		mux.HandleFunc("GET /static/"+f.Name(), fixed(f.Name(), data))
	}
	return nil
}

// types of the files, whatever the system knows of them.
var types = map[string]string{".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
	".yaml": "application/yaml", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8"}

// fixed serves a file that a browser may keep, but asks about each time.
func fixed(name string, data []byte) http.HandlerFunc {
	sum := sha256.Sum256(data)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", types[path.Ext(name)])
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("ETag", tag)
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(data))
	}
}

// openAPI serves the description of the API.
func (s *Server) openAPI() http.HandlerFunc {
	data, err := files.ReadFile("openapi.yaml")
	if err != nil {
		panic(err) // it is embedded
	}
	return fixed("openapi.yaml", data)
}
