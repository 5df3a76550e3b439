// Package recall makes prompts that ask for one fact in many documents, with the
// answer known: what measures how well a cache keeps what a question needs, and
// what calibrates the heads that find answers. Synthetic prompts hide an access
// code in a passage; natural ones ask for the default value of a setting that real
// documentation explains. Everything follows from a seed.
package recall

import (
	"hash/fnv"
	"path"
	"slices"
	"strings"
)

// Page is a document that prompts are made from.
type Page struct {
	Name string // its file, such as "runtime-config-wal.html"
	Text string
}

// reserved are the pages of the reference perplexities.
var reserved = []string{
	"plpgsql-cursors.html", "gist-extensibility.html", "unicode.html", "ddl-priv.html", "contrib-dblink-build-sql-delete.html",
	"trace.html", "wal-reliability.html", "development.html", "marshal.html", "locale.html", "curses.html", "site.html",
	"toplevel_components.html", "rowtypes.html", "importlib.resources.abc.html", "fdw-callbacks.html", "netdata.html",
	"modulefinder.html", "sect.dist-upgrade.html", "sect.automated-installation.html", "git-branch.html", "gitweb.html",
	"sql-createtype.html", "plpgsql-porting.html", "contextvars.html", "maintenance.html", "python.html", "arg.html", "bloom.html",
	"zipimport.html", "protocol-changes.html", "fuzzystrmatch.html", "filecmp.html", "difflib.html", "mailcap.html", "git-svn.html",
}

// settingPages document the settings that natural prompts ask for; two of them
// are left to calibration.
const settingPages = "runtime-config-"

var calibrationPages = []string{"runtime-config-resource.html", "runtime-config-preset.html"}

// ForEvaluation tells whether a page belongs to evaluation alone, by its file's
// name: nothing is trained or calibrated on it. One page in three does, the pages of settings
// but two, and those of the reference perplexities.
func ForEvaluation(file string) bool {
	name := path.Base(file)
	switch {
	case slices.Contains(calibrationPages, name):
		return false
	case slices.Contains(reserved, name) || strings.HasPrefix(name, settingPages):
		return true
	}
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32()%3 == 0
}
