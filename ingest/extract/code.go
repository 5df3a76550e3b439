package extract

import (
	"path"
	"regexp"
	"strings"
)

const typeCode = "text/x-source"

// languages by file name ending. Source code cannot be told from other text by looking at it reliably, so a
// name decides, and only for content that is text and nothing else.
var languages = map[string]string{
	".go": "go", ".py": "python", ".rs": "rust", ".c": "c", ".h": "c", ".cc": "cpp", ".cpp": "cpp", ".hpp": "cpp", ".cxx": "cpp",
	".java": "java", ".kt": "kotlin", ".scala": "scala", ".cs": "csharp", ".swift": "swift", ".js": "javascript", ".mjs": "javascript",
	".jsx": "javascript", ".ts": "typescript", ".tsx": "typescript", ".rb": "ruby", ".php": "php", ".pl": "perl", ".lua": "lua", ".r": "r",
	".sh": "shell", ".bash": "shell", ".zsh": "shell", ".ps1": "powershell", ".sql": "sql", ".proto": "protobuf", ".cu": "cuda",
	".zig": "zig", ".hs": "haskell", ".ml": "ocaml", ".ex": "elixir", ".erl": "erlang", ".clj": "clojure", ".jl": "julia", ".dart": "dart",
	".s": "assembly", ".asm": "assembly", ".vue": "vue", ".css": "css", ".scss": "css", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml",
	".ini": "ini", ".tf": "terraform", ".cmake": "cmake", ".gradle": "gradle", ".mk": "make",
}

var namedFiles = map[string]string{"makefile": "make", "dockerfile": "dockerfile", "cmakelists.txt": "cmake", "go.mod": "go-module"}

var shebang = regexp.MustCompile(`^#!.*?\b(python|bash|sh|zsh|perl|ruby|node|lua|php)[0-9.]*\b`)

// codeLanguage is the language that a file is written in, "" when it is no source code that is known.
func codeLanguage(name, text string) string {
	base := strings.ToLower(path.Base(strings.ReplaceAll(name, `\`, "/")))
	if language := namedFiles[base]; language != "" {
		return language
	}
	if language := languages[path.Ext(base)]; language != "" {
		return language
	}
	line, _, _ := strings.Cut(text[:min(len(text), 200)], "\n")
	if m := shebang.FindStringSubmatch(line); m != nil {
		switch m[1] {
		case "bash", "sh", "zsh":
			return "shell"
		case "node":
			return "javascript"
		}
		return m[1]
	}
	return ""
}

// sourceCode keeps the text as it is. Its outline are the declarations at the left margin.
func sourceCode(text, language string) (Document, error) {
	return Document{Text: text, MediaType: typeCode, Language: language, Outline: declarations(text)}, nil
}

// declaration is a line at the margin that opens something with a name, in most languages.
var declaration = regexp.MustCompile(`^(?:(?:pub(?:\([a-z]+\))?|export|default|public|private|protected|internal|static|abstract|final|async|unsafe|extern|inline|const|virtual|sealed|open|data|local|constexpr|template\s*<[^>]*>) )*` +
	`(?:func|fn|def|class|struct|enum|interface|trait|impl|type|module|namespace|function|object|protocol|extension|message|service|macro_rules!|sub|record|union|defmodule|resource|CREATE(?: OR REPLACE)? (?:TABLE|VIEW|FUNCTION|PROCEDURE|INDEX|TYPE|TRIGGER))\b.*`)

// cFunction is a definition in the manner of C: a type and a name at the margin, and a parenthesis.
var cFunction = regexp.MustCompile(`^[A-Za-z_][\w:<>,*&\s]*\s[*&]?[A-Za-z_~][\w:~]*\s*\([^;]*$`)

// aboveDeclaration is a line of a comment or a decorator, which belongs to the declaration that follows it.
var aboveDeclaration = regexp.MustCompile(`^(?://|#[^!]|/\*| \*|\*|--|@|"""|;;|%)`)

// declarations are the headings of source code: the line that opens each, with the comment directly above it.
func declarations(text string) []Heading {
	var found []Heading
	start, above := 0, -1 // above is where the comment before this line begins
	for line := range strings.Lines(text) {
		body := strings.TrimRight(line, " \t\n")
		switch {
		case len(body) > 0 && len(body) < 400 && body[0] != ' ' && body[0] != '\t' && (declaration.MatchString(body) || cFunction.MatchString(body)):
			from := start
			if above >= 0 {
				from = above
			}
			title := strings.TrimRight(oneLine(body), "{:( ")
			found = append(found, Heading{Start: from, End: start + len(body), Level: 1, Title: title})
			above = -1
		case !aboveDeclaration.MatchString(body):
			above = -1
		case above < 0:
			above = start
		}
		start += len(line)
	}
	return found
}
