package testnet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// Password is what every account of a test has: 33 characters.
const Password = "a-password-for-tests-and-no-other"

// JSON is an object.
type JSON = map[string]any

// Client talks to one server, as a user if Token is set.
type Client struct {
	Server *Server
	UserID string
	Token  string
}

var transaction atomic.Int64

// Anonymous is a client that has not logged in.
func (s *Server) Anonymous() *Client { return &Client{Server: s} }

// Register makes an account in one request.
func (s *Server) Register(localpart string) *Client {
	s.t.Helper()
	answer := s.Anonymous().Must("POST", "/v3/register", JSON{
		"username": localpart, "password": Password, "auth": JSON{"type": "m.login.dummy"},
	})
	return &Client{Server: s, UserID: answer["user_id"].(string), Token: answer["access_token"].(string)}
}

// On is the same user after the server has become another container.
func (c *Client) On(server *Server) *Client { return &Client{server, c.UserID, c.Token} }

// Ask sends a request to a path below /_matrix/client, or to one that begins with "/_", and returns
// status and body. An error says that there was no whole answer.
func (c *Client) Ask(method, path string, body any) (int, JSON, error) {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		content = bytes.NewReader(encoded)
	}
	if len(path) < 2 || path[:2] != "/_" {
		path = "/_matrix/client" + path
	}
	request, err := http.NewRequest(method, c.Server.clientURL+path, content)
	if err != nil {
		return 0, nil, err
	}
	if c.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.Token)
	}
	response, err := (&http.Client{Timeout: requestLimit}).Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer := JSON{}
	err = json.NewDecoder(response.Body).Decode(&answer)
	return response.StatusCode, answer, err
}

// Must is Ask that fails the test unless the answer is 200.
func (c *Client) Must(method, path string, body any) JSON {
	c.Server.t.Helper()
	status, answer, err := c.Ask(method, path, body)
	if err != nil || status != http.StatusOK {
		c.Server.t.Fatalf("%s: %s %s: %d %v %v", c.Server.Name, method, path, status, answer, err)
	}
	return answer
}

// CreatePublicRoom returns the id of a new room that anybody may join.
func (c *Client) CreatePublicRoom() string {
	c.Server.t.Helper()
	return c.Must("POST", "/v3/createRoom", JSON{"preset": "public_chat"})["room_id"].(string)
}

// Join joins the room with the help of another server.
func (c *Client) Join(room string, via *Server) {
	c.Server.t.Helper()
	c.Must("POST", "/v3/join/"+url.PathEscape(room)+"?server_name="+via.Name+"&via="+via.Name, JSON{})
}

// TrySend sends a message and returns the id of the event once the server has acknowledged it.
func (c *Client) TrySend(room, text string) (string, error) {
	path := fmt.Sprintf("/v3/rooms/%s/send/m.room.message/t%d", url.PathEscape(room), transaction.Add(1))
	status, answer, err := c.Ask("PUT", path, JSON{"msgtype": "m.text", "body": text})
	if err != nil {
		return "", err
	}
	id, found := answer["event_id"].(string)
	if status != http.StatusOK || !found {
		return "", fmt.Errorf("status %d: %v", status, answer)
	}
	return id, nil
}

// Send is TrySend that fails the test.
func (c *Client) Send(room, text string) string {
	c.Server.t.Helper()
	id, err := c.TrySend(room, text)
	if err != nil {
		c.Server.t.Fatalf("%s: cannot send: %v", c.Server.Name, err)
	}
	return id
}

// Timeline returns the ids of the events that the user sees, newest first, over all pages.
func (c *Client) Timeline(room string) []string {
	c.Server.t.Helper()
	var ids []string
	from := ""
	for range 100 {
		path := "/v3/rooms/" + url.PathEscape(room) + "/messages?dir=b&limit=100" + from
		page := c.Must("GET", path, nil)
		events, _ := page["chunk"].([]any)
		for _, event := range events {
			ids = append(ids, event.(JSON)["event_id"].(string))
		}
		end, more := page["end"].(string)
		if !more {
			return ids
		}
		from = "&from=" + url.QueryEscape(end)
	}
	c.Server.t.Fatalf("%s: the timeline does not end", c.Server.Name)
	return nil
}

// State returns the current state as event ids by type and state key.
func (c *Client) State(room string) map[string]string {
	c.Server.t.Helper()
	request, err := http.NewRequest("GET", c.Server.clientURL+"/_matrix/client/v3/rooms/"+url.PathEscape(room)+"/state", nil)
	if err != nil {
		c.Server.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+c.Token)
	response, err := (&http.Client{Timeout: requestLimit}).Do(request)
	if err != nil {
		c.Server.t.Fatal(err)
	}
	defer response.Body.Close()
	var events []struct {
		Type     string `json:"type"`
		StateKey string `json:"state_key"`
		EventID  string `json:"event_id"`
	}
	if err := json.NewDecoder(response.Body).Decode(&events); err != nil {
		c.Server.t.Fatalf("%s: the state of %s: %v", c.Server.Name, room, err)
	}
	state := map[string]string{}
	for _, event := range events {
		state[event.Type+"|"+event.StateKey] = event.EventID
	}
	return state
}

// Eventually waits until what check says is empty, and fails the test with it after the limit.
func Eventually(server *Server, limit time.Duration, check func() string) {
	server.t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(200 * time.Millisecond) {
		problem := check()
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			server.t.Fatalf("after %v still: %s", limit, problem)
		}
	}
}
