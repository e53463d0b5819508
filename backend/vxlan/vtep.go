package vxlan

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"tulle/backend"
)

// vtep is what a lease tells of its node's VXLAN device. Its JSON is flannel's.
type vtep struct {
	VNI int
	MAC backend.MAC
}

type vtepJSON struct {
	VNI     int
	VtepMAC string
}

func (t vtep) encode() string {
	text, err := json.Marshal(vtepJSON{t.VNI, t.MAC.String()})
	if err != nil {
		panic(err) // a number and a string
	}
	return string(text)
}

func parseVTEP(text string) (vtep, error) {
	var v vtepJSON
	if text == "" {
		return vtep{}, fmt.Errorf("no BackendData")
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return vtep{}, fmt.Errorf("BackendData %s: %w", text, err)
	}
	mac, err := backend.ParseMAC(v.VtepMAC)
	if err != nil {
		return vtep{}, fmt.Errorf("VtepMAC: %w", err)
	}
	if !mac.IsUnicast() {
		return vtep{}, fmt.Errorf("VtepMAC %s is not one device's address", mac)
	}
	return vtep{VNI: v.VNI, MAC: mac}, nil
}

// mac is the MAC address of a node's VXLAN device. It follows from the node's
// name and the VNI, so that a device made again keeps it and peers need no
// change; it is a locally administered unicast address (IEEE 802).
func (v VXLAN) mac(node string) backend.MAC {
	sum := sha256.Sum256(fmt.Appendf(nil, "tulle vtep %d %s", v.network.Backend.VNI, node))
	mac := backend.MAC(sum[:6])
	mac[0] = mac[0]&^1 | 2
	return mac
}
