package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

func readDocument(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../Documentation/cni.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestExamplesOfTheDocumentationAreValid(t *testing.T) {
	t.Parallel()
	examples := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(readDocument(t), -1)
	if len(examples) < 5 {
		t.Fatalf("found %d examples, want five or more", len(examples))
	}
	for _, e := range examples {
		if !strings.Contains(e[1], `"plugins"`) {
			if _, err := parseNetconf([]byte(e[1])); err != nil {
				t.Errorf("%v\n%s", err, e[1])
			}
			continue
		}
		list, err := libcni.NetworkConfFromBytes([]byte(e[1]))
		if err != nil {
			t.Errorf("%v\n%s", err, e[1])
			continue
		}
		for _, p := range list.Plugins {
			if p.Network.Type != "tulle" {
				continue
			}
			one, err := libcni.InjectConf(p, map[string]any{"name": list.Name, "cniVersion": list.CNIVersion})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parseNetconf(one.Bytes); err != nil {
				t.Errorf("%v\n%s", err, e[1])
			}
		}
	}
}

// The parser tells which fields it knows when it meets one that it does not; each
// of them is in the document.
func TestDocumentationNamesEveryField(t *testing.T) {
	t.Parallel()
	document := readDocument(t)
	const stranger = `"stranger": 1`
	_, err := parseNetconf([]byte(`{"name": "t", ` + stranger + `, "ipam": {` + stranger + `, "routes": [{"dst": "10.0.0.0/8", ` + stranger + `}]},
		"dns": {` + stranger + `}, "capabilities": {` + stranger + `}, "delegate": {` + stranger + `},
		"runtimeConfig": {` + stranger + `, "bandwidth": {` + stranger + `}, "portMappings": [{"hostPort": 1, "containerPort": 1, ` + stranger + `}]}}`))
	wantError(t, "parseNetconf", err, types.ErrUnsupportedField, "delegate.stranger", "runtimeConfig.portMappings[0].stranger")
	fields := regexp.MustCompile(`the fields here are ([^;]*)`).FindAllStringSubmatch(err.Error(), -1)
	if len(fields) != 9 {
		t.Fatalf("%d objects tell their fields, want 9: %v", len(fields), err)
	}
	for _, list := range fields {
		for name := range strings.SplitSeq(list[1], ", ") {
			if !regexp.MustCompile("[`.]" + regexp.QuoteMeta(name) + "[`.[]").MatchString(document) {
				t.Errorf("the document does not name the field %s", name)
			}
		}
	}
}

// What the document says of codes is what the library calls them.
func TestDocumentationNamesTheCodes(t *testing.T) {
	t.Parallel()
	document := readDocument(t)
	for _, code := range []uint{
		types.ErrUnsupportedField, types.ErrInvalidEnvironmentVariables, types.ErrIOFailure, types.ErrDecodingFailure,
		types.ErrInvalidNetworkConfig, types.ErrInvalidNetNS, types.ErrTryAgainLater, types.ErrPluginNotAvailable, types.ErrInternal,
	} {
		text, err := json.Marshal(code)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(document, "\n| "+string(text)+" |") {
			t.Errorf("the document does not name the code %d", code)
		}
	}
}
