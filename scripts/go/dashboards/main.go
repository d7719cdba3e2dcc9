// Says of each dashboard that is named whether Grafana's own schema takes it: what it does not know, what has another type and
// what is missing is told, and the exit code is 1.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

func main() {
	// What the dashboards use: all that there is takes minutes to compile.
	runtime := cog.NewRuntime()
	runtime.RegisterPanelcfgVariant(bargauge.VariantConfig())
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	code := 0
	for _, path := range os.Args[1:] {
		if err := check(path); err != nil {
			code = 1
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
		}
	}
	os.Exit(code)
}

func check(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	board := dashboard.Dashboard{}
	if err := board.UnmarshalJSONStrict(raw); told(err) {
		return err
	}
	// Of a type that is not registered, every option would be taken.
	types := struct{ Panels []struct{ Type string } }{}
	if err := json.Unmarshal(raw, &types); err != nil {
		return err
	}
	for number, each := range types.Panels {
		if _, known := cog.ConfigForPanelcfgVariant(each.Type); !known && each.Type != "row" {
			return fmt.Errorf("panels[%d]: of type %q, which is not checked: register it in scripts/go/dashboards", number, each.Type)
		}
	}
	if err := board.Validate(); told(err) {
		return err
	}
	return nil
}

// Whether there is an error: an empty list of them is one by its type alone.
func told(err error) bool {
	return err != nil && err.Error() != ""
}
