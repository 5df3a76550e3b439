// Package fetch gets documents from the web for ingestion, without becoming a way into the network that it runs
// in: only public addresses are connected to, whatever a name resolves to and wherever a redirect leads.
// Nothing that a page names is fetched after it.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

const (
	maxRedirects = 5
	timeout      = 60 * time.Second
)

// ErrForbidden is wrapped by the refusal of an address that is not public.
var ErrForbidden = errors.New("the address is not public")

// Page is what an address gave.
type Page struct {
	URL       string // where it was found in the end
	MediaType string // as the server says, with its charset
	Content   []byte
}

// Client fetches pages. The zero value is not usable.
type Client struct {
	http     *http.Client
	maxBytes int64
}

// New returns a client for pages of at most maxBytes.
func New(maxBytes int64) *Client { return newClient(maxBytes, public) }

// newClient lets tests say what is public.
func newClient(maxBytes int64, allowed func(netip.Addr) error) *Client {
	dialer := &net.Dialer{
		Timeout: 10 * time.Second,
		// The address that is really dialled decides: after every parser, resolver and redirect, and for each attempt.
		Control: func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("%s: %w", address, ErrForbidden)
			}
			return allowed(at.Addr())
		},
	}
	return &Client{maxBytes: maxBytes, http: &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy:                  nil, // a proxy would dial for us, unchecked
			DialContext:            dialer.DialContext,
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  30 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("more than %d redirects", maxRedirects)
			}
			return checkURL(r.URL)
		},
	}}
}

// Get fetches one page. A status other than 200 is an error.
func (c *Client) Get(ctx context.Context, address string) (Page, error) {
	u, err := url.Parse(address)
	if err != nil {
		return Page{}, fmt.Errorf("fetch %q: %w", address, err)
	}
	if err := checkURL(u); err != nil {
		return Page{}, fmt.Errorf("fetch %q: %w", address, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return Page{}, fmt.Errorf("fetch %q: %w", address, err)
	}
	request.Header.Set("User-Agent", "lessrag")
	response, err := c.http.Do(request)
	if err != nil {
		return Page{}, fmt.Errorf("fetch: %w", err) // it names the address
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return Page{}, fmt.Errorf("fetch %s: the server answers %s", address, response.Status)
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, c.maxBytes+1))
	if err != nil {
		return Page{}, fmt.Errorf("fetch %s: %w", address, err)
	}
	if int64(len(content)) > c.maxBytes {
		return Page{}, fmt.Errorf("fetch %s: it is larger than %d bytes", address, c.maxBytes)
	}
	return Page{URL: response.Request.URL.String(), MediaType: response.Header.Get("Content-Type"), Content: content}, nil
}

// checkURL refuses what is no web address.
func checkURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("the scheme %q is not fetched: http and https are", u.Scheme)
	case u.Hostname() == "":
		return errors.New("it names no host")
	case u.User != nil:
		return errors.New("it carries a user's name, which would be sent along")
	}
	return nil
}
