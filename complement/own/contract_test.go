// Package own tests Conduit's image from outside: what the upstream suite takes for granted, and what
// matters to us and is not in it.
package own

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"conduit/complement/testnet"
)

// keyDocument is what a server publishes of its keys.
type keyDocument struct {
	ServerName string `json:"server_name"`
	ValidUntil int64  `json:"valid_until_ts"`
	VerifyKeys map[string]struct {
		Key string `json:"key"`
	} `json:"verify_keys"`
	OldVerifyKeys *map[string]any              `json:"old_verify_keys"`
	Signatures    map[string]map[string]string `json:"signatures"`
}

// readKeys checks that the document is signed over its bytes without the signatures, as the suite does.
func readKeys(t *testing.T, server *testnet.Server) keyDocument {
	t.Helper()
	body := server.FederationGet("/_matrix/key/v2/server")
	var document keyDocument
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &document) != nil || json.Unmarshal(body, &members) != nil {
		t.Fatalf("not a key document: %s", body)
	}
	if document.ServerName != server.Name || document.OldVerifyKeys == nil {
		t.Errorf("the key document lacks something: %s", body)
	}
	if document.ValidUntil <= time.Now().UnixMilli() {
		t.Errorf("the keys are no longer valid: %s", body)
	}
	delete(members, "signatures")
	var signed bytes.Buffer
	encoder := json.NewEncoder(&signed)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(members); err != nil {
		t.Fatal(err)
	}
	if len(document.VerifyKeys) == 0 {
		t.Errorf("no keys: %s", body)
	}
	for id, key := range document.VerifyKeys {
		public, keyError := base64.RawStdEncoding.DecodeString(key.Key)
		signature, signatureError := base64.RawStdEncoding.DecodeString(document.Signatures[server.Name][id])
		if keyError != nil || signatureError != nil || len(public) != ed25519.PublicKeySize {
			t.Fatalf("not unpadded base64: %s", body)
		}
		if !ed25519.Verify(public, bytes.TrimSuffix(signed.Bytes(), []byte("\n")), signature) {
			t.Errorf("the signature by %s does not fit: %s", id, body)
		}
	}
	return document
}

func TestImageAnswersAsTheSuiteExpects(t *testing.T) {
	server := testnet.New(t).Start("hs1")
	readKeys(t, server)
	alice := server.Register("alice")
	if alice.UserID != "@alice:hs1" {
		t.Errorf("the server name is not that of the environment: %s", alice.UserID)
	}
	capabilities := alice.Must("GET", "/v3/capabilities", nil)["capabilities"].(testnet.JSON)
	if version := capabilities["m.room_versions"].(testnet.JSON)["default"]; version != "11" {
		t.Errorf("the default room version is %v", version)
	}
	guest := server.Anonymous().Must("POST", "/v3/register?kind=guest", testnet.JSON{})
	if _, found := guest["access_token"]; !found {
		t.Errorf("guests cannot register: %v", guest)
	}
	for range 30 {
		alice.CreatePublicRoom() // not limited
	}
}

func TestSharedSecretMakesAdministrators(t *testing.T) {
	server := testnet.New(t).Start("hs1")
	const path = "/_synapse/admin/v1/register"
	nonce := server.Anonymous().Must("GET", path, nil)["nonce"].(string)
	mac := hmac.New(sha1.New, []byte("complement"))
	mac.Write([]byte(strings.Join([]string{nonce, "root", testnet.Password, "admin"}, "\x00")))
	body := testnet.JSON{"nonce": nonce, "username": "root", "password": testnet.Password, "admin": true,
		"mac": hex.EncodeToString(mac.Sum(nil))}
	if made := server.Anonymous().Must("POST", path, body); made["user_id"] != "@root:hs1" {
		t.Errorf("made %v", made)
	}
	if status, answer, err := server.Anonymous().Ask("POST", path, body); err != nil || status == 200 {
		t.Errorf("a nonce counts twice: %d %v %v", status, answer, err)
	}
}

func TestServerStopsCleanlyAndComesBackTheSame(t *testing.T) {
	server := testnet.New(t).Start("hs1")
	alice := server.Register("alice")
	room := alice.CreatePublicRoom()
	before := readKeys(t, server)
	if code := server.Stop(); code != 0 {
		t.Errorf("exit code %d on SIGTERM", code)
	}
	server.StartAgain()
	after := readKeys(t, server)
	for id, key := range before.VerifyKeys {
		if after.VerifyKeys[id] != key {
			t.Errorf("the key %s has changed", id)
		}
	}
	alice.Send(room, "after the restart")
}

// The suite's clean mode prepares a server once and starts each test from a copy of its files.
func TestCommittedImageHoldsEverything(t *testing.T) {
	first := testnet.New(t).Start("hs1")
	alice := first.Register("alice")
	room := alice.CreatePublicRoom()
	id := alice.Send(room, "in the image")
	first.Stop()
	copied := testnet.New(t).StartImage("hs1", first.Commit(), nil)
	for _, found := range alice.On(copied).Timeline(room) {
		if found == id {
			return
		}
	}
	t.Error("the message is not in the copy")
}

func TestApplicationServicesAreReadFromTheirFolder(t *testing.T) {
	const registration = `id: bridge
hs_token: the-token-of-the-server
as_token: the-token-of-the-bridge
url: "http://localhost:9000"
sender_localpart: the-bridge
rate_limited: false
de.sorunome.msc2409.push_ephemeral: false
push_ephemeral: false
org.matrix.msc3202: false
namespaces:
  users:
    - exclusive: false
      regex: .*
  rooms: []
  aliases: []
`
	files := map[string][]byte{"/complement/appservice/bridge.yaml": []byte(registration)}
	server := testnet.New(t).StartImage("hs1", testnet.Image(t), files)
	bridge := &testnet.Client{Server: server, Token: "the-token-of-the-bridge"}
	if who := bridge.Must("GET", "/v3/account/whoami", nil); who["user_id"] != "@the-bridge:hs1" {
		t.Errorf("the bridge is %v", who)
	}
	ghost := testnet.JSON{"type": "m.login.application_service", "username": "ghost"}
	if made := bridge.Must("POST", "/v3/register", ghost); made["user_id"] != "@ghost:hs1" {
		t.Errorf("made %v", made)
	}
}
