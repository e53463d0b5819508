package lab

import (
	"os/exec"
	"testing"
)

func startSleep(t *testing.T) (*exec.Cmd, process) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := findProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, p
}

func TestKillSparesAStrangerWithThePid(t *testing.T) {
	t.Parallel()
	cmd, p := startSleep(t)
	earlier := process{Pid: p.Pid, Start: p.Start - 1}
	if earlier.alive() {
		t.Error("a process that started at another time is taken for ours")
	}
	if ended, err := earlier.kill(t.Context()); ended || err != nil {
		t.Errorf("kill = %t, %v, want nothing done", ended, err)
	}
	if !p.alive() {
		t.Error("the stranger is dead")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
}

func TestKillReturnsWhenTheProcessIsGone(t *testing.T) {
	t.Parallel()
	cmd, p := startSleep(t)
	if ended, err := p.kill(t.Context()); !ended || err != nil {
		t.Errorf("kill = %t, %v, want the process ended", ended, err)
	}
	if p.alive() { // it is a zombie until Wait
		t.Error("a zombie counts as alive")
	}
	_ = cmd.Wait() // it was killed
	if ended, err := p.kill(t.Context()); ended || err != nil {
		t.Errorf("second kill = %t, %v, want nothing done", ended, err)
	}
}
