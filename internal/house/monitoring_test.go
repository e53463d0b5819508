package house

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	metricName = regexp.MustCompile(`\btulle_[a-z_]+`)
	alertName  = regexp.MustCompile(`(?m)^\s+- alert: (\w+)$`)
	alertCell  = regexp.MustCompile("^`Tulle[A-Za-z]+`$")
)

// documentedMetrics are those of Documentation/running.md, which a test holds
// against a running daemon.
func documentedMetrics(t *testing.T) map[string]bool {
	names := map[string]bool{}
	for _, row := range table(read(t, "Documentation/running.md"), metricCell) {
		name := strings.Trim(row[0], "`")
		names[name] = true
		if row[1] == "histogram" {
			for _, end := range []string{"_bucket", "_sum", "_count"} {
				names[name+end] = true
			}
		}
	}
	return names
}

// TestMonitoredMetricsExist: dashboard and alerts ask for no metric that is not
// there.
func TestMonitoredMetricsExist(t *testing.T) {
	t.Parallel()
	there := documentedMetrics(t)
	for _, file := range []string{"dist/grafana/tulle.json", "dist/prometheus/alerts.yaml", "dist/prometheus/alerts_test.yaml"} {
		names := metricName.FindAllString(read(t, file), -1)
		if len(names) == 0 {
			t.Errorf("%s asks for no metric", file)
		}
		for _, name := range names {
			if !there[name] {
				t.Errorf("%s asks for %s, which tulled does not tell", file, name)
			}
		}
	}
}

// TestDashboard: it is what Grafana imports, every metric has a panel, and no
// two panels lie on one another.
func TestDashboard(t *testing.T) {
	t.Parallel()
	var d struct {
		UID    string
		Title  string
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	text := read(t, "dist/grafana/tulle.json")
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	if d.UID == "" || d.Title == "" || len(d.Panels) == 0 {
		t.Fatalf("uid %q, title %q, %d panels", d.UID, d.Title, len(d.Panels))
	}
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || len(p.Targets) == 0 || p.Targets[0].Expr == "" {
			t.Errorf("panel %d %q has no id of its own, no title or nothing to show", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				cell := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := cells[cell]; other != "" || cell[0] > 23 {
					t.Fatalf("panel %q lies on %q, or leaves the page", p.Title, other)
				}
				cells[cell] = p.Title
			}
		}
	}
	for _, row := range table(read(t, "Documentation/running.md"), metricCell) {
		if name := strings.Trim(row[0], "`"); !strings.Contains(text, name) {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// TestEveryAlertIsTestedAndDocumented.
func TestEveryAlertIsTestedAndDocumented(t *testing.T) {
	t.Parallel()
	want := map[string]bool{}
	for _, m := range alertName.FindAllStringSubmatch(read(t, "dist/prometheus/alerts.yaml"), -1) {
		want[m[1]] = true
	}
	have := map[string]bool{}
	for _, row := range table(read(t, "Documentation/monitoring.md"), alertCell) {
		have[strings.Trim(row[0], "`")] = true
	}
	if !maps.Equal(have, want) {
		t.Errorf("documented alerts:\n%s\nwant\n%s", slices.Sorted(maps.Keys(have)), slices.Sorted(maps.Keys(want)))
	}
	quiet, firing, _ := strings.Cut(read(t, "dist/prometheus/alerts_test.yaml"), "\n  - name: each fault")
	for name := range want {
		if !strings.Contains(quiet, "alertname: "+name+"}") {
			t.Errorf("no test that %s is quiet in a healthy cluster", name)
		}
		if !strings.Contains(firing, "alertname: "+name+"\n        exp_alerts:\n") {
			t.Errorf("no test that %s comes", name)
		}
	}
}
