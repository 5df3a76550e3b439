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
	dialer   *net.Dialer
	maxBytes int64
}

// StatusError is an answer other than 200.
type StatusError struct {
	Address string
	Status  int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("fetch %s: the server answers %d %s", e.Address, e.Status, http.StatusText(e.Status))
}

// Temporary reports whether the same address may answer soon: its server was away, in trouble or asked for patience.
func Temporary(err error) bool {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.Status >= 500 || status.Status == http.StatusTooManyRequests || status.Status == http.StatusRequestTimeout
	}
	if missing, ok := errors.AsType[*net.DNSError](err); ok {
		return !missing.IsNotFound
	}
	_, network := errors.AsType[net.Error](err)
	return network && !errors.Is(err, ErrForbidden) && !errors.Is(err, errRefused)
}

// errRefused is wrapped by the refusal of a redirect.
var errRefused = errors.New("not followed")

// Check refuses what is no web address, or one that is never fetched, without looking at where it leads.
func Check(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	return checkURL(u)
}

// New returns a client for pages of at most maxBytes.
func New(maxBytes int64) *Client { return NewWithin(maxBytes, Public) }

// NewWithin returns a client that connects to an address only if allowed has no objection to it.
func NewWithin(maxBytes int64, allowed func(netip.Addr) error) *Client {
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
	return &Client{maxBytes: maxBytes, dialer: dialer, http: &http.Client{
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
				return fmt.Errorf("more than %d redirects are %w", maxRedirects, errRefused)
			}
			if err := checkURL(r.URL); err != nil {
				return fmt.Errorf("a redirect to %s is %w: %w", r.URL.Redacted(), errRefused, err)
			}
			return nil
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
		return Page{}, &StatusError{address, response.StatusCode}
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
