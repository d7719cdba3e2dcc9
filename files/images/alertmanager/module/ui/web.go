// Package ui takes the place of Alertmanager's own, whose pages are made with npm and are no part of the Go module: it
// serves one page that shows what the API says.
package ui

import (
	_ "embed"
	"net/http"

	"github.com/prometheus/common/route"
)

//go:embed page.html
var page []byte

// Register registers the page.
func Register(r *route.Router) {
	r.Get("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(page)
	})
}
