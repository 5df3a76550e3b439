package fetch

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestPublic(t *testing.T) {
	for _, a := range []string{"127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1",
		"255.255.255.255", "240.0.0.1", "198.18.0.1", "192.0.2.1", "::1", "::", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "fec0::1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe",
		"64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:db8::1", "fe80::1%eth0"} {
		if err := public(netip.MustParseAddr(a)); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v", a, err)
		}
	}
	for _, a := range []string{"1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "64:ff9b::101:101", "::ffff:8.8.8.8"} {
		if err := public(netip.MustParseAddr(a)); err != nil {
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
	c := newClient(1000, onlyFirst)
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
