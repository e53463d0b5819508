package manual

import (
	"testing"

	"github.com/spf13/cobra"

	"tulle/internal/golden"
)

func TestPage(t *testing.T) {
	t.Parallel()
	cmd := &cobra.Command{
		Use: "loom [flags]", Short: "weave a net", Version: "1.2",
		Long: `loom weaves a net from \threads.

.Each row is knotted,
'and kept.`,
		Example: "  loom --rows=3",
		Run:     func(*cobra.Command, []string) {},
	}
	cmd.Flags().Int("rows", 2, "how many `rows`")
	cmd.Flags().Bool("tight", false, "without gaps")
	cut := &cobra.Command{Use: "cut ROW", Short: "cut a row", Run: func(*cobra.Command, []string) {}}
	cut.Flags().String("with", "", "the `tool` (default the sharpest)")
	secret := &cobra.Command{Use: "burn", Hidden: true, Run: func(*cobra.Command, []string) {}}
	cmd.AddCommand(cut, secret)
	golden.Check(t, "loom.8", Page(cmd, 8))
}
