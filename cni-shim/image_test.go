package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// image writes an archive in the layout of the Open Container Initiative with an
// image that holds one program, and nothing that anybody would have to pull.
func image(t *testing.T, name, program string) (archive string) {
	t.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	layer := archiveOf(t, 0o755, map[string][]byte{"pause": text})
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion": "1.0.0"}`)}
	blob := func(kind string, v any) map[string]any {
		raw, ok := v.([]byte)
		if !ok {
			var err error
			if raw, err = json.Marshal(v); err != nil {
				t.Fatal(err)
			}
		}
		sum := fmt.Sprintf("%x", sha256.Sum256(raw))
		files["blobs/sha256/"+sum] = raw
		return map[string]any{"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + sum, "size": len(raw)}
	}
	inLayer := blob("layer.v1.tar", layer)
	config := blob("config.v1+json", map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Entrypoint": []string{"/pause"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{inLayer["digest"]}},
	})
	manifest := blob("manifest.v1+json", map[string]any{"schemaVersion": 2, "config": config, "layers": []any{inLayer}})
	manifest["annotations"] = map[string]string{"io.containerd.image.name": name}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{manifest}})
	if err != nil {
		t.Fatal(err)
	}
	files["index.json"] = index
	archive = filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(archive, archiveOf(t, 0o644, files), 0o600); err != nil {
		t.Fatal(err)
	}
	return archive
}

func archiveOf(t *testing.T, mode int64, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
