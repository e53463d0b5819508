package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// spec says what the image is made of.
type spec struct {
	name, version, revision string
	created                 time.Time
	programs                []programs
}

// programs are those of one architecture.
type programs struct{ arch, dir string }

// labels are what org.opencontainers.image.* asks for, as far as there is something
// to say.
func (s spec) labels() map[string]string {
	const prefix = "org.opencontainers.image."
	return map[string]string{
		prefix + "title":       "tulle",
		prefix + "description": "pod subnets leased from etcd and connected by VXLAN",
		prefix + "version":     s.version,
		prefix + "revision":    s.revision,
		prefix + "created":     s.created.Format(time.RFC3339),
		prefix + "licenses":    "Apache-2.0",
	}
}

// image is that of one architecture.
func (s spec) image(p programs) (v1.Image, error) {
	layer, err := s.layer(p)
	if err != nil {
		return nil, err
	}
	img := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		Architecture: p.arch, OS: "linux", Created: v1.Time{Time: s.created},
		RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			Entrypoint: []string{"/usr/bin/tulled"},
			Env:        []string{"PATH=/usr/bin"},
			WorkingDir: "/",
			Labels:     s.labels(),
		},
	})
	if err != nil {
		return nil, err
	}
	return mutate.Append(img, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: s.created}, CreatedBy: "dist/tools/image", Comment: "static programs and the folders that they need"},
	})
}

// index is the images of all architectures.
func (s spec) index() (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range s.programs {
		img, err := s.image(p)
		if err != nil {
			return nil, fmt.Errorf("image for %s: %w", p.arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: p.arch}},
		})
	}
	return mutate.Annotations(index, s.labels()).(v1.ImageIndex), nil
}

// write writes the layout as one file. A file of that name is replaced when all of
// the new one is there.
func (s spec) write(file string) error {
	index, err := s.index()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(file), ".image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tree := filepath.Join(dir, "layout")
	l, err := layout.Write(tree, empty.Index)
	if err != nil {
		return err
	}
	err = l.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"io.containerd.image.name":          s.name, // containerd asks for this one
		"org.opencontainers.image.ref.name": s.name,
	}))
	if err != nil {
		return err
	}
	packed := filepath.Join(dir, "image.tar")
	if err := pack(tree, packed, s.created); err != nil {
		return err
	}
	return os.Rename(packed, file)
}
