package fetch

import (
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func TestPublic(t *testing.T) {
	for _, a := range []string{"127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1",
		"255.255.255.255", "240.0.0.1", "198.18.0.1", "192.0.2.1", "::1", "::", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "fec0::1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe",
		"64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:db8::1", "fe80::1%eth0"} {
		if err := Public(netip.MustParseAddr(a)); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v", a, err)
		}
	}
	for _, a := range []string{"1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "64:ff9b::101:101", "::ffff:8.8.8.8"} {
		if err := Public(netip.MustParseAddr(a)); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
}

// TestInternalAddressesAreNeverConnectedTo: in whatever way they are written.
func TestInternalAddressesAreNeverConnectedTo(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer s.Close()
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	c := New(1000)
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]"} {
		if _, err := c.Get(t.Context(), "http://"+host+":"+port+"/"); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"2130706433", "0177.0.0.1", "0x7f.1", "127.1"} { // no resolver of ours reads these; if one does, it is refused
		if _, err := c.Get(t.Context(), "http://"+host+":"+port+"/"); err == nil {
			t.Errorf("%s was fetched", host)
		}
	}
	if asked != 0 {
		t.Errorf("the server was asked %d times", asked)
	}
}

// onlyFirst allows 127.0.0.1 and nothing else, so that the tests have a public address.
func onlyFirst(a netip.Addr) error {
	if a != netip.MustParseAddr("127.0.0.1") {
		return fmt.Errorf("%s: %w", a, ErrForbidden)
	}
	return nil
}

func TestEveryHopIsChecked(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skip("this machine has no second loopback address:", err)
	}
	asked := 0
	internal := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ })}
	go internal.Serve(inner)
	defer internal.Close()

	mux := http.NewServeMux()
	mux.HandleFunc("/in", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+inner.Addr().String()+"/", http.StatusFound)
	})
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "file:///etc/passwd")
		w.WriteHeader(302)
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/hop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/page", http.StatusFound) })
	mux.HandleFunc("/page", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, "<p>words<img src=http://"+inner.Addr().String()+"/pixel>")
	})
	mux.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, strings.Repeat("x", 2000)) })
	s := httptest.NewServer(mux)
	defer s.Close()
	c := NewWithin(1000, onlyFirst)
	for path, want := range map[string]string{"/in": ErrForbidden.Error(), "/file": "scheme", "/loop": "redirects", "/large": "larger", "/none": "404"} {
		if _, err := c.Get(t.Context(), s.URL+path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	p, err := c.Get(t.Context(), s.URL+"/hop")
	if err != nil || !strings.HasPrefix(string(p.Content), "<p>words") || p.MediaType != "text/html; charset=utf-8" || p.URL != s.URL+"/page" {
		t.Errorf("got %+v, %v", p, err)
	}
	if asked != 0 {
		t.Errorf("the internal server was asked %d times", asked)
	}
}

func TestOtherAddressesAreRefused(t *testing.T) {
	c := New(1000)
	for address, want := range map[string]string{"ftp://a.example/": "scheme", "file:///etc/passwd": "scheme", "http://": "host", "http://u:p@a.example/": "user", "http://a b/": "invalid", "gopher://x": "scheme"} {
		if _, err := c.Get(t.Context(), address); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// nameserver answers every question about IPv4 with the next of its answers, the last one for ever, and that there is
// nothing of any other kind. It returns its address.
func nameserver(t *testing.T, answers ...[]string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		packet := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(packet[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				for _, a := range answers[0] {
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
						Body: &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()}})
				}
				if len(answers) > 1 {
					answers = answers[1:]
				}
			}
			if reply, err := m.Pack(); err == nil {
				conn.WriteTo(reply, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

// TestNamesThatMove: a name that was public when it was looked at first, and is private when it is dialled, is refused
// (DNS rebinding), and of several addresses only the public ones are tried.
func TestNamesThatMove(t *testing.T) {
	asked := [2]int{}
	var port string
	for i, address := range []string{"127.0.0.1", "127.0.0.2"} {
		l, err := net.Listen("tcp", net.JoinHostPort(address, cmp.Or(port, "0")))
		if err != nil {
			t.Skip("this machine has no second loopback address with the same port:", err)
		}
		_, port, _ = net.SplitHostPort(l.Addr().String())
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked[i]++
			w.Header().Set("Connection", "close")
			fmt.Fprint(w, "words")
		})}
		go s.Serve(l)
		t.Cleanup(func() { s.Close() })
	}
	resolver := func(answers ...[]string) *net.Resolver {
		at := nameserver(t, answers...)
		return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "udp", at)
		}}
	}
	address := "http://rebinding.example:" + port + "/"

	c := NewWithin(1000, onlyFirst)
	c.dialer.Resolver = resolver([]string{"127.0.0.1"}, []string{"127.0.0.2"})
	if p, err := c.Get(t.Context(), address); err != nil || string(p.Content) != "words" {
		t.Errorf("while the name is public: %v", err)
	}
	if _, err := c.Get(t.Context(), address); !errors.Is(err, ErrForbidden) || Temporary(err) {
		t.Errorf("when it has moved: %v", err)
	}
	c.dialer.Resolver = resolver([]string{"127.0.0.2", "127.0.0.1"})
	if _, err := c.Get(t.Context(), address); err != nil {
		t.Errorf("with a public address among others: %v", err)
	}
	if asked[0] != 2 || asked[1] != 0 {
		t.Errorf("the public server was asked %d times, the private one %d", asked[0], asked[1])
	}
}

// TestSlowAndSwollenPages: a server that takes its time, or sends a little that unpacks to much, is given up.
func TestSlowAndSwollenPages(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/silent":
			<-r.Context().Done()
		case "/drip":
			for r.Context().Err() == nil {
				fmt.Fprint(w, "x")
				w.(http.Flusher).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			z.Write(make([]byte, 100<<20))
			z.Close()
		case "/headers":
			for i := range 10_000 {
				w.Header().Set(fmt.Sprint("X-", i), "xxxxxxxxxxxxxxxx")
			}
		case "/busy":
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer s.Close()
	c := NewWithin(10_000, onlyFirst)
	c.http.Timeout = 200 * time.Millisecond
	for _, path := range []string{"/silent", "/drip", "/busy"} {
		began := time.Now()
		if _, err := c.Get(t.Context(), s.URL+path); err == nil || !Temporary(err) || time.Since(began) > 10*time.Second {
			t.Errorf("%s: %v after %v", path, err, time.Since(began))
		}
	}
	c.http.Timeout = time.Minute
	if _, err := c.Get(t.Context(), s.URL+"/bomb"); err == nil || Temporary(err) || !strings.Contains(err.Error(), "larger") {
		t.Errorf("a bomb: %v", err)
	}
	if _, err := c.Get(t.Context(), s.URL+"/headers"); err == nil || !strings.Contains(err.Error(), "header") {
		t.Errorf("endless headers: %v", err)
	}
}
