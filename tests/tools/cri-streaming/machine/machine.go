// Package machine serves exec and port-forward with Kubernetes' own CRI streaming
// library. Containers are nothing but this machine: commands run here as they are,
// ports are those of its loopback address.
package machine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/creack/pty"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// Settings are a program's flags.
type Settings struct{ listen, certificate, key, clients, programs string }

// FromFlags reads the command line.
func FromFlags() Settings {
	var s Settings
	flag.StringVar(&s.listen, "listen", "", "address and port to serve at")
	flag.StringVar(&s.certificate, "cert", "", "file with the certificate that is shown")
	flag.StringVar(&s.key, "key", "", "file with its key")
	flag.StringVar(&s.clients, "client-ca", "", "file with the authority of those who may ask")
	flag.StringVar(&s.programs, "programs", "", "folder with the programs of all containers")
	flag.Parse()
	return s
}

// Serve answers by `routes`, over TLS, those who show a certificate.
func (s Settings) Serve(routes http.Handler) error {
	authority, err := os.ReadFile(s.clients)
	if err != nil {
		return err
	}
	known := x509.NewCertPool()
	if !known.AppendCertsFromPEM(authority) {
		return fmt.Errorf("-client-ca: no certificate in %s", s.clients)
	}
	server := &http.Server{
		Addr:    s.listen,
		Handler: routes,
		TLSConfig: &tls.Config{
			ClientCAs:  known,
			ClientAuth: tls.RequireAndVerifyClientCert,
		},
	}
	return server.ListenAndServeTLS(s.certificate, s.key)
}

// Routes serves by the library.
func (s Settings) Routes() http.Handler {
	here := machine{s.programs}
	routes := http.NewServeMux()
	routes.HandleFunc("/exec/{namespace}/{pod}/{container}", here.serveExec)
	routes.HandleFunc("/portForward/{namespace}/{pod}", here.servePortForward)
	return routes
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
func (m machine) ExecInContainer(ctx context.Context, _, _, _ string, words []string, in io.Reader, out, errs io.WriteCloser, tty bool, sizes <-chan remotecommand.TerminalSize, _ time.Duration) error {
	if len(words) == 0 {
		return errors.New("no command")
	}
	program := words[0]
	if !strings.Contains(program, "/") {
		program = filepath.Join(m.programs, program)
	}
	command := exec.CommandContext(ctx, program, words[1:]...)
	command.Env = []string{"PATH=" + m.programs}
	if tty {
		return ended(onTerminal(command, in, out, sizes))
	}
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
	return ended(command.Run())
}

// ended is how the library wants to hear of an exit code. The words, which follow
// its own, are a runtime's to choose; ours are few, to be compared.
func ended(err error) error {
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.Exited() {
		code := ended.ExitCode()
		return utilexec.CodeExitError{Err: errors.New(strconv.Itoa(code)), Code: code}
	}
	return err
}

func onTerminal(command *exec.Cmd, in io.Reader, out io.Writer, sizes <-chan remotecommand.TerminalSize) error {
	terminal, err := pty.Start(command)
	if err != nil {
		return err
	}
	defer terminal.Close()
	go func() {
		for size := range sizes {
			_ = pty.Setsize(terminal, &pty.Winsize{Rows: size.Height, Cols: size.Width})
		}
	}()
	if in != nil {
		go func() { _, _ = io.Copy(terminal, in) }()
	}
	if out == nil {
		out = io.Discard
	}
	// Ends with an error, by which Linux says that nobody has the terminal any more.
	_, _ = io.Copy(out, terminal)
	return command.Wait()
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
