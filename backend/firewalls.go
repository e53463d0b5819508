package backend

// Firewalls is what a host has.
type Firewalls struct {
	NFTables      bool // the kernel has it
	Program       bool // iptables is installed
	ProgramLegacy bool // and is of the kind before nftables
	LegacyRules   bool // tables of that kind are in use
	KubeNFTables  bool // kube-proxy works by nftables
	KubeIPTables  bool // kube-proxy works by iptables

	// What drops packets there is not to be reached by us.
	LegacyUnheard    bool // tables are in use for which there is no program
	FirewalldUnheard bool // firewalld lets nobody else into its table
}
