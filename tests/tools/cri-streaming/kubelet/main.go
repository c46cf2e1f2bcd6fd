// The peer of the test `library`: exec and port-forward on the wire as a kubelet
// of Kubernetes 1.36 serves them. The CRI streaming library is its container
// runtime; this is what a kubelet does in front of it (pkg/kubelet/server): it
// passes on what the library speaks, and puts `v5.channel.k8s.io` and the
// port-forward's tunnel into words that it speaks.
package main

import (
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/util/proxy"
	translator "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"virtual-kubelet/tests/tools/cri-streaming/machine"
)

func main() {
	settings := machine.FromFlags()
	runtime, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(runtime, settings.Routes())) }()
	log.Fatal(settings.Serve(kubelet{runtime.Addr().String()}))
}

type kubelet struct{ runtime string }

func (k kubelet) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	place := *request.URL
	place.Scheme, place.Host = "http", k.runtime
	if strings.HasPrefix(place.Path, "/exec/") {
		exec(w, request, &place)
	} else {
		portForward(w, request, &place)
	}
}

func exec(w http.ResponseWriter, request *http.Request, place *url.URL) {
	options, err := remotecommand.NewOptions(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if wsstream.IsWebSocketRequestWithStreamCloseProtocol(request) {
		streams := translator.Options{
			Stdin: options.Stdin, Stdout: options.Stdout, Stderr: options.Stderr, Tty: options.TTY,
		}
		translator.NewStreamTranslatorHandler(place, nil, 0, streams).ServeHTTP(w, request)
		return
	}
	passOn(place).ServeHTTP(w, request)
}

func portForward(w http.ResponseWriter, request *http.Request, place *url.URL) {
	if wsstream.IsWebSocketRequestWithTunnelingProtocol(request) {
		translator.NewTunnelingHandler(passOn(place)).ServeHTTP(w, request)
		return
	}
	if _, err := portforward.NewV4Options(request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	passOn(place).ServeHTTP(w, request)
}

func passOn(place *url.URL) http.Handler {
	return proxy.NewUpgradeAwareHandler(place, nil, false, true, responder{})
}

type responder struct{}

func (responder) Error(w http.ResponseWriter, _ *http.Request, err error) {
	http.Error(w, err.Error(), http.StatusInternalServerError)
}
