package mongolog_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/events/servertest"
)

func TestAnInsertWhoseAnswerIsLostIsOpenAndTryingAgainSettlesIt(t *testing.T) {
	db := servertest.Database(t, "mongolog")
	newStore(t, db, 1)
	uri, armed := lossy(t)
	far := servertest.Client(t, options.Client().ApplyURI(uri).SetRetryWrites(false).
		SetServerMonitoringMode(options.ServerMonitoringModePoll)).Database(db.Name())
	s := mongolog.Open(far, logName, 1)

	c := commitOf(t, 0, 1, 2, 10)
	armed.Store(true)
	err := s.Insert(t.Context(), c, []string{"claim:anna"})
	if err == nil || errors.Is(err, log.ErrTaken) || armed.Load() {
		t.Fatalf("the answer was lost: %v, want an error that leaves it open", err)
	}
	if err := s.Insert(t.Context(), c, []string{"claim:anna"}); !errors.Is(err, log.ErrTaken) {
		t.Fatalf("the same again: %v, want ErrTaken", err)
	}

	armed.Store(true)
	l := log.New(s, log.Options{})
	defer l.Close()
	e := events.Event{ID: uuid.New(), Type: events.ProfileVisited, Stream: uuid.New(), OccurredAt: recorded, Data: []byte("{}"), Claims: []string{"bert"}}
	at, err := l.Append(t.Context(), e)
	if err != nil || at[0].Sequence != 3 || at[0].Duplicate || armed.Load() {
		t.Fatalf("an append whose answer was lost: %+v (%v), want it at 3", at, err)
	}
	if firsts, err := read(t.Context(), s, 0, 0); err != nil || len(firsts) != 2 {
		t.Fatalf("the log holds %v (%v), want two commits", firsts, err)
	}
}

// lossy is a way to the server that, when armed, loses the answer to the next
// insert and the connection with it, and is armed no more.
func lossy(t *testing.T) (uri string, armed *atomic.Bool) {
	t.Helper()
	server, err := url.Parse(servertest.Mongo(t))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	armed = new(atomic.Bool)
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return // closed
			}
			far, err := net.Dial("tcp", server.Host)
			if err != nil {
				_ = near.Close()
				continue
			}
			go carry(near, far, armed)
		}
	}()
	through := *server
	through.Host = listener.Addr().String()
	query := through.Query()
	query.Del("replicaSet")
	query.Set("directConnection", "true")
	through.RawQuery = query.Encode()
	return through.String(), armed
}

// carry passes messages to and fro until either side closes.
func carry(near, far net.Conn, armed *atomic.Bool) {
	defer func() { _, _ = near.Close(), far.Close() }()
	for {
		request, err := message(near)
		if err != nil {
			return
		}
		if _, err := far.Write(request); err != nil {
			return
		}
		answer, err := message(far)
		if err != nil {
			return
		}
		if bytes.Contains(request, []byte("\x02insert\x00")) && armed.CompareAndSwap(true, false) {
			return
		}
		if _, err := near.Write(answer); err != nil {
			return
		}
	}
}

// message reads one message of the wire protocol, which begins with its length.
func message(from io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return nil, err
	}
	m := make([]byte, max(4, binary.LittleEndian.Uint32(length[:])))
	copy(m, length[:])
	_, err := io.ReadFull(from, m[4:])
	return m, err
}
