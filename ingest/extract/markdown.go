package extract

// markdown keeps the source: it reads well as it is, and offsets stay those of the author's text.
func markdown(text string) (Document, error) {
	return Document{Text: text, Markdown: true, MediaType: typeMarkdown}, nil
}
