// The peer of `ONLY=streams make bench`: exec and port-forward served by
// Kubernetes' own CRI streaming library, to an API server that takes this for a
// kubelet.
//
// A kubelet passes what it is asked on to the streaming server of its container
// runtime, so that every byte goes through two processes. Here the library answers
// at once. `kubelet` beside it does as a kubelet.
package main

import (
	"log"

	"virtual-kubelet/tests/tools/cri-streaming/machine"
)

func main() {
	settings := machine.FromFlags()
	log.Fatal(settings.Serve(settings.Routes()))
}
