package extract

func plain(text string) (Document, error) {
	return Document{Text: text, MediaType: typeText}, nil
}
