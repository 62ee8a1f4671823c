package testnet

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	startLimit   = 30 * time.Second
	startPoll    = 50 * time.Millisecond
	requestLimit = 30 * time.Second
	stopSeconds  = 10
)

// Server is one container.
type Server struct {
	t       testing.TB
	network *Network
	// Name is the server name and the host name in the network.
	Name      string
	container string
	clientURL string
	// The port of 127.0.0.1 that leads to the federation listener.
	federationAddress string
}

// StartAgain starts the container and waits until it answers. Its ports are new.
func (s *Server) StartAgain() {
	s.t.Helper()
	docker(s.t, "start", s.container)
	s.clientURL = "http://" + s.publishedAddress("8008")
	s.federationAddress = s.publishedAddress("8448")
	client := &http.Client{Timeout: time.Second}
	for deadline := time.Now().Add(startLimit); ; time.Sleep(startPoll) {
		response, err := client.Get(s.clientURL + "/_matrix/client/versions")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s does not answer: %v", s.Name, err)
		}
		if state, err := run("inspect", "--format", "{{.State.Running}}", s.container); err != nil || state != "true" {
			log, _ := run("logs", "--tail", "1", s.container)
			s.t.Fatalf("%s has exited: %s", s.Name, log)
		}
	}
}

// Kill ends the server with SIGKILL, as a crash would.
func (s *Server) Kill() {
	s.t.Helper()
	docker(s.t, "kill", s.container)
}

// Stop ends the server with SIGTERM and returns its exit code. A server that needs SIGKILL fails the test.
func (s *Server) Stop() int {
	s.t.Helper()
	began := time.Now()
	docker(s.t, "stop", "--time", strconv.Itoa(stopSeconds), s.container)
	if took := time.Since(began); took >= stopSeconds*time.Second {
		s.t.Errorf("%s took %v to stop", s.Name, took)
	}
	code, err := strconv.Atoi(docker(s.t, "inspect", "--format", "{{.State.ExitCode}}", s.container))
	if err != nil {
		s.t.Fatal(err)
	}
	return code
}

// Commit makes an image of the stopped container's files, which is removed with the container's network.
func (s *Server) Commit() string {
	s.t.Helper()
	image := docker(s.t, "commit", "--change", "LABEL "+label, s.container)
	s.network.images = append(s.network.images, image)
	return image
}

// FederationGet asks the federation listener, as a server would that trusts the network's authority only.
func (s *Server) FederationGet(path string) []byte {
	s.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.network.ca.certificate)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: s.Name}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: requestLimit}
	response, err := client.Get("https://" + s.federationAddress + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		s.t.Fatalf("%s%s: %d %s %v", s.Name, path, response.StatusCode, body, err)
	}
	return body
}

// publishedAddress is where a port of the container is reached from here. An engine may publish it
// at another port for IPv6, which is of no use.
func (s *Server) publishedAddress(port string) string {
	s.t.Helper()
	format := `{{range index .NetworkSettings.Ports "` + port + `/tcp"}}{{.HostIp}} {{.HostPort}};{{end}}`
	for deadline := time.Now().Add(startLimit); ; time.Sleep(startPoll) {
		out, err := run("inspect", "--format", format, s.container)
		for _, published := range strings.Split(out, ";") {
			if host, port, found := strings.Cut(published, " "); found && !strings.Contains(host, ":") {
				return "127.0.0.1:" + port
			}
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("port %s of %s is not published: %q %v", port, s.Name, out, err)
		}
	}
}
