package own

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"conduit/complement/testnet"
)

const (
	kills        = 3
	senders      = 4
	sendingTime  = 700 * time.Millisecond
	agreeingTime = 60 * time.Second
)

// sendUntilRefused sends messages until the server is gone, and returns the ids it has acknowledged.
func sendUntilRefused(client *testnet.Client, room, name string) []string {
	var acknowledged []string
	for count := 0; ; count++ {
		id, err := client.TrySend(room, fmt.Sprintf("%s %d", name, count))
		if err != nil {
			return acknowledged
		}
		acknowledged = append(acknowledged, id)
	}
}

func TestAcknowledgedEventsSurviveAKill(t *testing.T) {
	server := testnet.New(t).Start("hs1")
	alice := server.Register("alice")
	room := alice.CreatePublicRoom()
	var acknowledged []string
	for round := range kills {
		results := make(chan []string, senders)
		var running sync.WaitGroup
		for sender := range senders {
			running.Add(1)
			go func() {
				defer running.Done()
				results <- sendUntilRefused(alice, room, fmt.Sprintf("round %d sender %d", round, sender))
			}()
		}
		time.Sleep(sendingTime)
		server.Kill()
		running.Wait()
		close(results)
		for ids := range results {
			acknowledged = append(acknowledged, ids...)
		}
		server.StartAgain()
		found := alice.Timeline(room)
		for _, id := range acknowledged {
			if !slices.Contains(found, id) {
				t.Errorf("round %d: %s was acknowledged and is lost", round, id)
			}
		}
		alice.Send(room, "still writable")
	}
	t.Logf("%d acknowledged messages survived %d kills", len(acknowledged), kills)
	if len(acknowledged) < kills*senders {
		t.Errorf("only %d messages were sent: the test shows nothing", len(acknowledged))
	}
}

func TestThreeServersAgreeAfterOneWasAway(t *testing.T) {
	network := testnet.New(t)
	servers := []*testnet.Server{network.Start("hs1"), network.Start("hs2"), network.Start("hs3")}
	var users []*testnet.Client
	for index, server := range servers {
		users = append(users, server.Register(fmt.Sprintf("user-%d", index+1)))
	}
	room := users[0].CreatePublicRoom()
	levels := testnet.JSON{"users": testnet.JSON{users[0].UserID: 100, users[1].UserID: 50}}
	users[0].Must("PUT", "/v3/rooms/"+room+"/state/m.room.power_levels/", levels)
	users[1].Join(room, servers[0])
	users[2].Join(room, servers[1])
	users[2].Send(room, "before")

	servers[2].Kill()
	var sent []string
	for round := range 10 {
		for _, user := range users[:2] {
			sent = append(sent, user.Send(room, fmt.Sprintf("while the third is away, %d", round)))
			user.Must("PUT", "/v3/rooms/"+room+"/state/m.room.topic/", testnet.JSON{"topic": fmt.Sprintf("topic %d of %s", round, user.UserID)})
		}
	}
	servers[2].StartAgain()
	sent = append(sent, users[2].Send(room, "back again"))

	testnet.Eventually(servers[2], agreeingTime, func() string {
		wanted := users[0].State(room)
		for _, user := range users {
			timeline := user.Timeline(room)
			for _, id := range sent {
				if !slices.Contains(timeline, id) {
					return fmt.Sprintf("%s does not see %s", user.UserID, id)
				}
			}
			for key, id := range user.State(room) {
				if wanted[key] != id {
					return fmt.Sprintf("%s has %s for %s, the first server %s", user.UserID, id, key, wanted[key])
				}
			}
		}
		return ""
	})
}
