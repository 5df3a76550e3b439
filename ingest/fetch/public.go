package fetch

import (
	"fmt"
	"net/netip"
)

// reserved are the ranges of the IANA registries of special-purpose addresses that netip has no method for.
var reserved = prefixes("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "240.0.0.0/4", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16", "fec0::/10")

// Addresses of IPv6 that carry one of IPv4 inside, and where it begins.
var (
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
	sixTo4 = netip.MustParsePrefix("2002::/16")
)

func prefixes(all ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(all))
	for i, p := range all {
		out[i] = netip.MustParsePrefix(p)
	}
	return out
}

// Public refuses every address but those of the open internet.
func Public(a netip.Addr) error {
	a = a.Unmap().WithZone("")
	inner := a
	b := a.As16()
	switch {
	case nat64.Contains(a):
		inner = netip.AddrFrom4([4]byte(b[12:16]))
	case sixTo4.Contains(a):
		inner = netip.AddrFrom4([4]byte(b[2:6]))
	}
	for _, at := range []netip.Addr{a, inner} {
		if !at.IsGlobalUnicast() || at.IsPrivate() || at.IsLoopback() || at.IsLinkLocalUnicast() || at.IsMulticast() || at.IsUnspecified() {
			return fmt.Errorf("%s: %w", a, ErrForbidden)
		}
		for _, p := range reserved {
			if p.Contains(at) {
				return fmt.Errorf("%s: %w", a, ErrForbidden)
			}
		}
	}
	return nil
}
