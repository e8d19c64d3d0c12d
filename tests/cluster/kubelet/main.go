// A stand-in for the kubelet of a node that the test control plane does not have. The API server finds it by a Node's
// address and port; it serves `exec` and `port-forward` by the library that kubelets and container runtimes use.
//
// Whatever pod is asked for: `exec` runs the program of -program with the arguments after the command's first word, and
// `port-forward` connects to that port of this host. Prints its port once it listens.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

const patience = 30 * time.Second

type host struct{ program string }

func (h host) ExecInContainer(ctx context.Context, _, _, _ string, words []string, in io.Reader, out, err io.WriteCloser,
	_ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	command := exec.CommandContext(ctx, h.program, words[1:]...)
	command.Stdin, command.Stdout, command.Stderr = in, out, err
	// What is left of an input that the program did not read must not keep it.
	command.WaitDelay = time.Second
	failed := command.Run()
	var ended *exec.ExitError
	if errors.As(failed, &ended) {
		return utilexec.CodeExitError{Err: failed, Code: ended.ExitCode()}
	}
	return failed
}

func (h host) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	connection, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), patience)
	if err != nil {
		return err
	}
	defer connection.Close()
	var both sync.WaitGroup
	both.Go(func() {
		io.Copy(connection, stream)
		connection.(*net.TCPConn).CloseWrite()
	})
	io.Copy(stream, connection)
	stream.Close()
	both.Wait()
	return nil
}

func (h host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// /exec/NAMESPACE/POD/CONTAINER and /portForward/NAMESPACE/POD
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case parts[0] == "exec" && len(parts) == 4:
		options, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		remotecommand.ServeExec(w, r, h, parts[2], "", parts[3], r.URL.Query()["command"], options,
			time.Hour, patience, remotecommand.SupportedStreamingProtocols)
	case parts[0] == "portForward" && len(parts) == 3:
		options, err := portforward.NewV4Options(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		portforward.ServePortForward(w, r, h, parts[2], "", options, time.Hour, patience, portforward.SupportedProtocols)
	default:
		http.NotFound(w, r)
	}
}

func main() {
	program := flag.String("program", "", "what exec runs")
	certificate := flag.String("certificate", "", "file of the serving certificate")
	key := flag.String("key", "", "file of its key")
	flag.Parse()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	os.Stdout.Close()
	log.Fatal(http.ServeTLS(listener, host{*program}, *certificate, *key))
}
