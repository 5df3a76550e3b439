package eval

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"lessrag/decode/recall"
	"lessrag/ingest/extract"
)

// Documents are the pages of `make fetch-eval` that prompts quote: in English,
// without the FAQs, whose questions measure retrieval.
var Documents = []string{
	"postgresql-doc-15/postgresql-doc-15/html/*.html",
	"debian-handbook/debian-handbook/html/en-US/*.html",
	"git-doc/git-doc/*.html",
	"python3.11-doc/python3.11/html/library/*.html",
	"python3.11-doc/python3.11/html/howto/*.html",
}

// pageStride: of the pages that explain no settings one in so many is read, to
// save time.
const pageStride = 6

var settingsPage = regexp.MustCompile(`^(runtime-config-.*|auto-explain|postgres-fdw|pgprewarm|sql-createindex)\.html$`)

// Pages reads the documents for evaluation or for calibration, as plain text.
func Pages(ctx context.Context, assets string, calibration bool) ([]recall.Page, error) {
	var pages []recall.Page
	for _, pattern := range Documents {
		paths, err := filepath.Glob(filepath.Join(assets, "documents", pattern))
		if err != nil {
			return nil, err
		}
		if len(paths) == 0 {
			return nil, fmt.Errorf("no documents at %s: run `make fetch-eval`", filepath.Join(assets, "documents", pattern))
		}
		slices.Sort(paths)
		count := 0
		for _, path := range paths {
			name := filepath.Base(path)
			if recall.ForEvaluation(name) == calibration {
				continue
			}
			if count++; count%pageStride != 0 && !settingsPage.MatchString(name) {
				continue
			}
			page, err := ReadPage(ctx, path)
			if err != nil {
				return nil, err
			}
			pages = append(pages, page)
		}
	}
	return pages, nil
}

// ReadPage reads a file as plain text.
func ReadPage(ctx context.Context, path string) (recall.Page, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return recall.Page{}, err
	}
	document, err := extract.Extract(ctx, path, "", content)
	if err != nil {
		return recall.Page{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return recall.Page{Name: filepath.Base(path), Text: strings.ReplaceAll(document.Text, "`", "")}, nil
}
