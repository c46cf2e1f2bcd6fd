// The peer of `ONLY=streams make bench`: exec and port-forward served by
// Kubernetes' own CRI streaming library, over TLS, to an API server that takes this
// for a kubelet. Containers are nothing but this machine: commands run here as they
// are, ports are those of its loopback address.
//
// A kubelet passes what it is asked on to the streaming server of its container
// runtime, so that every byte goes through two processes. Here the library answers
// at once.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

func main() {
	listen := flag.String("listen", "", "address and port to serve at")
	certificate := flag.String("cert", "", "file with the certificate that is shown")
	key := flag.String("key", "", "file with its key")
	clients := flag.String("client-ca", "", "file with the authority of those who may ask")
	programs := flag.String("programs", "", "folder with the programs of all containers")
	flag.Parse()
	if err := serve(*listen, *certificate, *key, *clients, machine{*programs}); err != nil {
		log.Fatal(err)
	}
}

func serve(listen, certificate, key, clients string, here machine) error {
	authority, err := os.ReadFile(clients)
	if err != nil {
		return err
	}
	known := x509.NewCertPool()
	if !known.AppendCertsFromPEM(authority) {
		return fmt.Errorf("-client-ca: no certificate in %s", clients)
	}
	routes := http.NewServeMux()
	routes.HandleFunc("/exec/{namespace}/{pod}/{container}", here.serveExec)
	routes.HandleFunc("/portForward/{namespace}/{pod}", here.servePortForward)
	server := &http.Server{
		Addr:    listen,
		Handler: routes,
		TLSConfig: &tls.Config{
			ClientCAs:  known,
			ClientAuth: tls.RequireAndVerifyClientCert,
		},
	}
	return server.ListenAndServeTLS(certificate, key)
}

// machine runs what is asked for, as a container runtime's part behind the library.
type machine struct{ programs string }

// With the library's own settings throughout.
var settings = streaming.DefaultConfig

func (m machine) serveExec(w http.ResponseWriter, request *http.Request) {
	options, err := remotecommand.NewOptions(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if options.TTY {
		http.Error(w, "terminals are not served here", http.StatusNotImplemented)
		return
	}
	remotecommand.ServeExec(w, request, m,
		request.PathValue("pod"), "", request.PathValue("container"),
		request.URL.Query()["command"], options,
		settings.StreamIdleTimeout, settings.StreamCreationTimeout,
		settings.SupportedRemoteCommandProtocols)
}

func (m machine) servePortForward(w http.ResponseWriter, request *http.Request) {
	options, err := portforward.NewV4Options(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	portforward.ServePortForward(w, request, m,
		request.PathValue("pod"), "", options,
		settings.StreamIdleTimeout, settings.StreamCreationTimeout,
		settings.SupportedPortForwardProtocols)
}

// ExecInContainer is the library's Executor.
func (m machine) ExecInContainer(ctx context.Context, _, _, _ string, words []string, in io.Reader, out, errs io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	if len(words) == 0 {
		return errors.New("no command")
	}
	program := words[0]
	if !strings.Contains(program, "/") {
		program = filepath.Join(m.programs, program)
	}
	command := exec.CommandContext(ctx, program, words[1:]...)
	command.Env = []string{"PATH=" + m.programs}
	if out != nil {
		command.Stdout = out
	}
	if errs != nil {
		command.Stderr = errs
	}
	if in != nil {
		// Not as command.Stdin: then its end would wait for the client's.
		stdin, err := command.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			defer stdin.Close()
			_, _ = io.Copy(stdin, in)
		}()
	}
	err := command.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.Exited() {
		return utilexec.CodeExitError{Err: err, Code: ended.ExitCode()}
	}
	return err
}

// PortForward is the library's PortForwarder.
func (m machine) PortForward(ctx context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer connection.Close()
	said := make(chan struct{})
	go func() {
		defer close(said)
		_, _ = io.Copy(connection, stream)
		_ = connection.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stream, connection)
	// The client's half ends with the stream, at the latest.
	_ = stream.Close()
	<-said
	return err
}
