package lab

import "testing"

func TestParseFragments(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		want       fragments
		fault      bool
	}{
		{
			name: "values stand below their names",
			text: "Ip: Forwarding DefaultTTL ReasmReqds FragOKs FragFails FragCreates\nIp: 1 64 3 0 5 7\nIcmp: InMsgs\nIcmp: 9\n",
			want: fragments{made: 7, joined: 3, refused: 5},
		},
		{
			name: "a kernel with other counters in between",
			text: "Icmp: InMsgs\nIcmp: 9\nIp: FragCreates New ReasmReqds FragFails\nIp: 1 2 3 4\n",
			want: fragments{made: 1, joined: 3, refused: 4},
		},
		{name: "no counters", text: "Tcp: RtoMin\nTcp: 200\n", fault: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseFragments(tt.text)
			if got != tt.want || (err != nil) != tt.fault {
				t.Errorf("parseFragments = %s, %v, want %s, fault %t", got, err, tt.want, tt.fault)
			}
		})
	}
}

func TestParseFragmentsOfIPv6(t *testing.T) {
	t.Parallel()
	text := "Ip6InReceives                   \t31\nIp6ReasmReqds \t3\nIp6FragFails\t5\nIp6FragCreates\t7\n"
	if got, want := parseFragments6(text), (fragments{made: 7, joined: 3, refused: 5}); got != want {
		t.Errorf("parseFragments6 = %s, want %s", got, want)
	}
}
