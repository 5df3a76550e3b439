package bench

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// programs are what speaks to the peers' libraries, in Python: a JSON object a
// line, set-up first, then a request for every answer.
//
//go:embed peer/llama.py peer/onnx.py peer/documents.py
var programs embed.FS

// Where `make peer` puts things, below the assets directory.
const (
	peerPython    = "peer/venv/bin/python"
	peerRequanted = "peer/SmolLM2-135M-Instruct.Q4_0.gguf"
)

// ErrNoPeer tells that there is no peer to compare with.
var ErrNoPeer = errors.New("run `make peer`, which builds it (some ten minutes)")

// Peer is a process of the peer's library with one set-up.
type Peer struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	errors  *bytes.Buffer // the end of what it wrote there
	name    string
}

// maxReply bounds a line of a peer: an embedding is a few KB.
const maxReply = 1 << 20

// llamaSetup is the first line to llama.py.
type llamaSetup struct {
	Model   string `json:"model"`
	Threads int    `json:"threads"`
	Flash   bool   `json:"flash"`
}

// LlamaFiles are the weights that llama.cpp is measured with: those that we read,
// and where they are the default reader's the same in the type that it repacks.
func LlamaFiles(assets, model string) []string {
	files := []string{model}
	if requanted := filepath.Join(assets, peerRequanted); filepath.Base(model) == "SmolLM2-135M-Instruct.Q4_1.gguf" {
		files = append(files, requanted)
	}
	return files
}

// OpenLlama starts llama.cpp on each file, with flash attention and without.
func OpenLlama(ctx context.Context, assets string, files []string, threads int) ([]Contender, func() error, error) {
	var peers []*Peer
	closeAll := func() error {
		var errs []error
		for _, p := range peers {
			errs = append(errs, p.Close())
		}
		return errors.Join(errs...)
	}
	var contenders []Contender
	for _, file := range files {
		for _, flash := range []bool{true, false} {
			if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
				return nil, nil, errors.Join(fmt.Errorf("%s is missing: %w", file, ErrNoPeer), closeAll())
			}
			p, err := openPeer(ctx, assets, "llama.py", llamaSetup{Model: file, Threads: threads, Flash: flash})
			if err != nil {
				return nil, nil, errors.Join(err, closeAll())
			}
			peers = append(peers, p)
			name := p.name + ", " + quantisation(file)
			if flash {
				name += ", flash attention"
			}
			contenders = append(contenders, Contender{Runner: p, Name: name, Cache: "full", File: filepath.Base(file), Peer: true})
		}
	}
	return contenders, closeAll, nil
}

// quantisation is the part of a GGUF file's name that says how it is stored.
func quantisation(file string) string {
	name := strings.TrimSuffix(filepath.Base(file), ".gguf")
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[i+1:]
	}
	return name
}

// openPeer starts one of the programs that `make peer` has built for, and sends it its set-up.
func openPeer(ctx context.Context, assets, program string, setup any) (*Peer, error) {
	python := filepath.Join(assets, peerPython)
	if _, err := os.Stat(python); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing: %w", python, ErrNoPeer)
	}
	return openPython(ctx, python, program, setup)
}

// openPython starts one of the programs with a Python.
func openPython(ctx context.Context, python, program string, setup any) (*Peer, error) {
	source, err := programs.ReadFile("peer/" + program)
	if err != nil {
		return nil, err
	}
	return startPeer(exec.CommandContext(ctx, python, "-c", string(source)), setup)
}

// startPeer runs a command that speaks the protocol.
func startPeer(command *exec.Cmd, setup any) (*Peer, error) {
	p := &Peer{command: command, errors: new(bytes.Buffer)}
	command.Stderr = &tail{p.errors}
	command.WaitDelay = 5 * time.Second
	var err error
	if p.in, err = command.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("starting the peer: %w", err)
	}
	var hello struct{ Name string }
	if err := p.ask(setup, &hello); err != nil {
		return nil, errors.Join(fmt.Errorf("setting up the peer: %w", err), p.Close())
	}
	if p.name = hello.Name; p.name == "" {
		return nil, errors.Join(errors.New("the peer does not say what it is"), p.Close())
	}
	return p, nil
}

// Run has the peer do a work.
func (p *Peer) Run(_ context.Context, prompts [][]int32, tokens int) (Timing, error) {
	var reply struct{ First, Decode float64 }
	err := p.ask(struct {
		Prompts [][]int32 `json:"prompts"`
		Tokens  int       `json:"tokens"`
	}{prompts, tokens}, &reply)
	return Timing{First: seconds(reply.First), Decode: seconds(reply.Decode)}, err
}

// Used is the peer's time.
func (p *Peer) Used() time.Duration { return usedBy(p.command.Process.Pid) }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// ask sends one line and reads one. A process that ended, or what it says went
// wrong, is an error with the last of what it wrote on standard error.
func (p *Peer) ask(request, reply any) error {
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return p.gone(err)
	}
	if line, err = readLine(p.out); err != nil {
		return p.gone(err)
	}
	var failure struct{ Error string }
	if err := json.Unmarshal(line, &failure); err != nil {
		return fmt.Errorf("the peer answered %.80q: %w", line, err)
	}
	if failure.Error != "" {
		return errors.New("the peer failed: " + failure.Error)
	}
	return json.Unmarshal(line, reply)
}

func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxReply:
			return nil, fmt.Errorf("a line of more than %d bytes", maxReply)
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// gone is the error of a process that does not answer.
func (p *Peer) gone(err error) error {
	p.command.Process.Kill()
	p.command.Wait()
	return fmt.Errorf("the peer ended (%w): %s", err, strings.TrimSpace(p.errors.String()))
}

// Close ends the process.
func (p *Peer) Close() error {
	p.in.Close()
	if p.command.ProcessState != nil {
		return nil // it has ended, and the caller knows
	}
	return p.command.Wait()
}

// tail keeps the last KB of what is written.
type tail struct{ *bytes.Buffer }

func (t *tail) Write(b []byte) (int, error) {
	n, err := t.Buffer.Write(b)
	if over := t.Len() - 1<<10; over > 0 {
		t.Next(over)
	}
	return n, err
}
