// Package testnet starts Conduit's image as the contract of Complement says (docs/compliance.md), for
// black-box tests that need nothing but the standard library and a Docker engine.
//
// Everything it makes carries the label "conduit_complement=own", is removed when the test ends, and
// every wait has a deadline.
package testnet

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const label = "conduit_complement=own"

// Network is a Docker network with an authority of its own, in which servers find each other by name.
type Network struct {
	t       testing.TB
	name    string
	ca      authority
	servers []*Server
	images  []string
}

// authority holds the two files that the contract has copied into each container.
type authority struct {
	certificate *x509.Certificate
	certPEM     []byte
	keyPEM      []byte
}

// One authority serves all tests of a package, as making its key takes seconds.
var sharedAuthority = sync.OnceValues(makeAuthority)

// New makes a network, which is removed with its servers when the test ends.
func New(t testing.TB) *Network {
	t.Helper()
	ca, err := sharedAuthority()
	if err != nil {
		t.Fatalf("cannot make an authority: %v", err)
	}
	network := &Network{t: t, name: "conduit-own-" + randomHex(6), ca: ca}
	docker(t, "network", "create", "--label", label, network.name)
	t.Cleanup(network.remove)
	return network
}

// Start starts a server of that name from the image in COMPLEMENT_BASE_IMAGE and waits until it answers.
func (n *Network) Start(name string) *Server {
	n.t.Helper()
	return n.StartImage(name, Image(n.t), nil)
}

// Image is the name of the image to test.
func Image(t testing.TB) string {
	t.Helper()
	image := os.Getenv("COMPLEMENT_BASE_IMAGE")
	if image == "" {
		t.Fatal("COMPLEMENT_BASE_IMAGE must name the image to test")
	}
	return image
}

// StartImage is Start with another image, and with files to be put into the container before it starts.
func (n *Network) StartImage(name, image string, files map[string][]byte) *Server {
	n.t.Helper()
	arguments := []string{"create", "--label", label, "--env", "SERVER_NAME=" + name,
		"--network", n.name, "--network-alias", name, "--publish-all",
		"--cap-add", "NET_ADMIN", "--add-host", "host.docker.internal:host-gateway"}
	if prefix := os.Getenv("COMPLEMENT_SHARE_ENV_PREFIX"); prefix != "" {
		for _, variable := range os.Environ() {
			if shared, found := strings.CutPrefix(variable, prefix); found {
				arguments = append(arguments, "--env", shared)
			}
		}
	}
	container := docker(n.t, append(arguments, image)...)
	server := &Server{t: n.t, network: n, Name: name, container: container}
	n.servers = append(n.servers, server)
	server.copyFiles(map[string][]byte{"/complement/ca/ca.crt": n.ca.certPEM, "/complement/ca/ca.key": n.ca.keyPEM})
	server.copyFiles(files)
	server.StartAgain()
	return server
}

func (n *Network) remove() {
	for _, server := range n.servers {
		if n.t.Failed() {
			server.keepLog()
		}
		run("rm", "--force", "--volumes", server.container)
	}
	run("network", "rm", n.name)
	for _, image := range n.images {
		run("rmi", "--force", image)
	}
}

func makeAuthority() (authority, error) {
	key, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		return authority{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{Organization: []string{"Test network"}, CommonName: "Authority"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(10, 0, 0),
		IsCA:                  true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return authority{}, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, err
	}
	keyBlock := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return authority{
		certificate: certificate,
		certPEM:     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyPEM:      pem.EncodeToMemory(keyBlock),
	}, nil
}

// copyFiles puts files into the container, which has no shell that could.
func (s *Server) copyFiles(files map[string][]byte) {
	s.t.Helper()
	if len(files) == 0 {
		return
	}
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	for path, content := range files {
		header := &tar.Header{Name: strings.TrimPrefix(path, "/"), Mode: 0o644, Size: int64(len(content))}
		if err := writer.WriteHeader(header); err != nil {
			s.t.Fatal(err)
		}
		if _, err := writer.Write(content); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		s.t.Fatal(err)
	}
	command := exec.Command("docker", "cp", "-", s.container+":/")
	command.Stdin = &archive
	if out, err := command.CombinedOutput(); err != nil {
		s.t.Fatalf("docker cp: %v: %s", err, out)
	}
}

// keepLog writes what the server logged to COMPLEMENT_LOGS, if that is set.
func (s *Server) keepLog() {
	folder := os.Getenv("COMPLEMENT_LOGS")
	if folder == "" {
		return
	}
	log, err := exec.Command("docker", "logs", s.container).CombinedOutput()
	if err == nil {
		name := strings.ReplaceAll(s.t.Name(), "/", "_") + "." + s.Name + ".log"
		err = os.WriteFile(filepath.Join(folder, name), log, 0o644)
	}
	if err != nil {
		s.t.Logf("the log of %s is not kept: %v", s.Name, err)
	}
}

// docker runs the command line client and returns the last line it printed.
func docker(t testing.TB, args ...string) string {
	t.Helper()
	out, err := run(args...)
	if err != nil {
		t.Fatalf("docker %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func run(args ...string) (string, error) {
	command := exec.Command("docker", args...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1], nil
}

func randomHex(bytes int) string {
	random := make([]byte, bytes)
	rand.Read(random) // never fails
	return fmt.Sprintf("%x", random)
}
