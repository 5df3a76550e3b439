package server

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// page is the service's page in a real browser.
type page struct {
	*service
	ctx context.Context

	mu     sync.Mutex
	faults []string // what the console and the browser complained about
}

// openPage starts Chromium on the service's page.
func openPage(t *testing.T, s *service) *page {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("LESSRAG_REQUIRE_BROWSER") == "1" {
			t.Fatal("chromium not found, and LESSRAG_REQUIRE_BROWSER=1")
		}
		t.Skip("chromium not found")
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(chromium), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 860), chromedp.Headless, chromedp.NoSandbox,
		chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true))
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() { cancel(); stop() })

	p := &page{service: s, ctx: ctx}
	messages := chromedp.Console(ctx)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for m, err := range messages {
			if err != nil {
				return // the browser has closed
			}
			if m.IsException() || m.Type == "error" || m.Type == "warning" {
				p.mu.Lock()
				p.faults = append(p.faults, m.String()+" "+m.URL)
				p.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-heard })
	p.do("open the page", chromedp.Navigate(s.url+"/"), chromedp.WaitVisible("#question"))
	return p
}

// do runs browser actions, or fails with what was being done.
func (p *page) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, actions...); err != nil {
		p.t.Fatalf("%s: %v (the console said %q)", what, err, p.said())
	}
}

func (p *page) said() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.faults...)
}

// js evaluates a JavaScript expression, and waits for it if it is a promise.
func js[T any](p *page, expression string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v (the console said %q)", expression, err, p.said())
	}
	return v
}

func (p *page) is(expression string) bool { p.t.Helper(); return js[bool](p, "!!("+expression+")") }
func (p *page) text(expression string) string {
	p.t.Helper()
	return js[string](p, "String("+expression+")")
}

// run evaluates JavaScript for what it does.
func (p *page) run(script string) {
	p.t.Helper()
	js[bool](p, "(async () => { "+script+"; return true; })()")
}

// comes waits until a JavaScript expression is true.
func (p *page) comes(expression string) {
	p.t.Helper()
	p.eventually(expression, func() bool { return p.is(expression) })
}

// ask types a question and sends it with Enter.
func (p *page) ask(question string) {
	p.t.Helper()
	p.do("ask", chromedp.SendKeys("#question", question+"\r"))
}

// shoot saves a picture where LESSRAG_SCREENSHOTS names a folder.
func (p *page) shoot(name string) {
	p.t.Helper()
	dir := os.Getenv("LESSRAG_SCREENSHOTS")
	if dir == "" {
		return
	}
	p.do("settle", chromedp.Sleep(300*time.Millisecond))
	picture, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// size changes the window; wide pictures are of a desk, 360 of a phone.
func (p *page) size(width, height int64) {
	p.t.Helper()
	p.do("resize", chromedp.EmulateViewport(width, height))
}

const chips = `document.querySelectorAll(".turn:last-child .chip")`

func TestBrowserAsks(t *testing.T) {
	s := newService(t, func(c *Config) {
		c.Examples = []string{"When was the Aurora bridge opened, and by whom?", "How long does Velm cheese ripen?"}
	}).withFacts()
	p := openPage(t, s)

	// The first visit offers questions; one is asked by a click.
	p.comes(`document.querySelectorAll(".examples button").length === 2`)
	p.comes(`document.querySelector("#memory").textContent.includes("sinks")`)
	p.shoot("empty")
	p.do("take the first example", chromedp.Click(".examples button"))
	p.comes(`document.querySelector(".turn .prose").textContent.length > 0`)
	p.comes(`document.querySelector(".turn:last-child .timing")?.textContent.includes("tokens/s")`)
	p.comes(`document.querySelector("#memory").textContent.includes("full cache")`)
	if got := p.text(`document.querySelector("#status").textContent`); got == "" {
		t.Error("nothing was announced")
	}
	if !p.is(`document.activeElement.id === "question" || document.activeElement === document.body`) {
		t.Error("the focus was taken from the composer")
	}
	if n := p.text(`document.querySelectorAll("#sources li").length`); n == "0" {
		t.Error("no sources beside the answer")
	}
	p.shoot("answer")

	// A source opens in its document, with the passage highlighted.
	p.do("open the first source", chromedp.Click("#sources li button"))
	p.comes(`document.querySelector("#sources mark.passage")`)
	if got := p.text(`document.querySelector("#sources mark.passage").textContent`); !strings.Contains(got, "4 May 1974") {
		t.Errorf("highlighted %q", got)
	}
	p.shoot("source")
	p.do("close it", chromedp.KeyEvent("\x1b"))
	p.comes(`!document.querySelector("#sources mark.passage")`)

	// A chip opens the passage that it cites.
	if p.is(chips + `.length === 0`) {
		t.Errorf("the answer cites nothing: %s", p.text(`document.querySelector(".turn .prose").textContent`))
	} else {
		p.run(chips + `[0].click()`)
		p.comes(`document.querySelector("#sources mark.passage")`)
		p.shoot("citation")
		p.do("close it", chromedp.KeyEvent("\x1b"))
	}

	// Nothing relevant: an honest refusal, and the meter says that nothing was read.
	p.do("ask by the button", chromedp.SendKeys("#question", "Which programming language has generics since version 1.18?"), chromedp.Click("#send"))
	p.comes(`document.querySelector(".turn:last-child").classList.contains("refused")`)
	p.comes(`document.querySelector("#memory").textContent.includes("not asked")`)

	p.do("dark", chromedp.Click("#theme"))
	p.comes(`document.documentElement.dataset.theme === "dark"`)
	p.shoot("dark")
	p.do("light", chromedp.Click("#theme"))
	p.narrow("ask")

	// A reload brings the conversation back.
	p.do("reload", chromedp.Reload())
	p.comes(`document.querySelectorAll(".turn").length === 2`)
	p.comes(`document.querySelector(".turn .prose").textContent.length > 0`)
	p.clean()
}

// narrow checks a phone's width in what is shown now.
func (p *page) narrow(what string) {
	p.t.Helper()
	p.size(360, 740)
	for _, theme := range []string{"light", "dark"} {
		p.run(`document.documentElement.dataset.theme = "` + theme + `"`)
		p.shoot("360-" + what + "-" + theme)
	}
	p.run(`document.documentElement.dataset.theme = "light"`)
	if !p.is(`document.documentElement.scrollWidth <= 360 && [...document.querySelectorAll("body *")].every((e) => e.closest("#sources, .hidden, .skip, pre, table, dialog") || e.getBoundingClientRect().right <= 360.5)`) {
		p.t.Errorf("%s is wider than 360 px: %s", what, p.text(`[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > 360.5).map((e) => e.tagName + "." + e.className).join(" ")`))
	}
	p.size(1280, 860)
}

// clean holds the console to silence.
func (p *page) clean() {
	p.t.Helper()
	if faults := p.said(); len(faults) > 0 {
		p.t.Errorf("the console: %q", faults)
	}
}

func TestBrowserStopsAndResumes(t *testing.T) {
	s := newService(t, nil).withFacts()
	s.answers.Defaults.MaxTokens, s.answers.Defaults.Sampling.Temperature = 400, 3
	p := openPage(t, s)
	p.comes(`document.querySelector("#collection").value === "facts"`)

	p.ask("When was the Aurora bridge opened, and by whom?")
	p.comes(`document.querySelector(".turn .prose").textContent.length > 20`)
	if got := p.text(`document.querySelector("#send").textContent`); got != "Stop" {
		t.Errorf("while it answers the button says %q", got)
	}

	// A reload in the middle goes on with the whole text so far.
	before := p.text(`document.querySelector(".turn .prose").textContent.slice(0, 15)`)
	p.do("reload", chromedp.Reload(), chromedp.WaitVisible("#question"))
	p.comes(`document.querySelector(".turn .prose")?.textContent.length > 40`)
	if got := p.text(`document.querySelector(".turn .prose").textContent.slice(0, 15)`); got != before {
		t.Errorf("began with %q, after the reload with %q", before, got)
	}
	if got := p.text(`document.querySelector("#send").textContent`); got != "Stop" {
		t.Errorf("after the reload the button says %q", got)
	}

	p.do("stop", chromedp.KeyEvent("\x1b"))
	p.comes(`document.querySelector(".turn .note")?.textContent.startsWith("Stopped")`)
	p.comes(`document.querySelector("#send").textContent === "Ask"`)
	p.eventually("the slot is free", func() bool { return models.engine.Stats().Running == 0 })
	p.shoot("stopped")

	// A draft survives a reload; Enter inside an input method does not send.
	p.do("draft", chromedp.SendKeys("#question", "half a question"))
	p.run(`document.querySelector("#question").dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", isComposing: true, bubbles: true, cancelable: true}))`)
	p.do("reload", chromedp.Reload(), chromedp.WaitVisible("#question"))
	p.comes(`document.querySelectorAll(".turn").length === 1`)
	p.comes(`document.querySelector("#question").value === "half a question"`)
	p.clean()
}

func TestBrowserDocuments(t *testing.T) {
	s := newService(t, nil)
	p := openPage(t, s)
	dir := t.TempDir()
	var paths []string
	for name, text := range map[string]string{"bridge.md": facts["bridge.md"], "blank.md": " \n\n "} {
		paths = append(paths, filepath.Join(dir, name))
		if err := os.WriteFile(paths[len(paths)-1], []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p.do("go to the documents", chromedp.Click(`[data-view="documents"]`), chromedp.WaitReady("#files"))
	p.do("choose files", chromedp.SetUploadFiles("#files", paths))
	p.comes(`document.querySelector('li[data-name="bridge.md"]')?.classList.contains("ready")`)
	p.comes(`document.querySelector('li[data-name="blank.md"]')?.classList.contains("failed")`)
	if got := p.text(`document.querySelector('li[data-name="blank.md"] .reason').textContent`); got == "" {
		t.Error("the failed file has no reason")
	}
	if got := p.text(`document.querySelector(".totals").textContent`); got != "1 ready · 1 failed" {
		t.Errorf("totals %q", got)
	}
	p.shoot("documents")
	p.narrow("documents")

	p.do("retry", chromedp.Click(`li[data-name="blank.md"] .do button`))
	p.comes(`document.querySelector("#status").textContent.includes("blank.md is tried again")`)
	p.comes(`document.querySelector('li[data-name="blank.md"]')?.classList.contains("failed")`)
	const remove = `document.querySelector('li[data-name="blank.md"] .do button:last-child')`
	p.run(remove + `.click()`)
	if got := p.text(remove + `.textContent`); got != "Really delete?" {
		t.Errorf("a first press on delete says %q", got)
	}
	p.run(remove + `.click()`)
	p.comes(`!document.querySelector('li[data-name="blank.md"]')`)

	// A dropped file is taken too.
	p.run(`
		const data = new DataTransfer();
		data.items.add(new File(["# Lamp\n\nThe lamp of Velm is blue."], "lamp.md", {type: "text/markdown"}));
		document.querySelector(".drop").dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
	`)
	p.comes(`document.querySelector('li[data-name="lamp.md"]')?.classList.contains("ready")`)
	p.clean()
}

// What documents and readers write is shown, never run, loaded or followed.
func TestBrowserShowsHostileTextAsText(t *testing.T) {
	s := newService(t, nil)
	p := openPage(t, s)
	p.run(`
		const { Prose } = await import("/js/markdown.js");
		const box = document.createElement("div");
		document.body.append(box);
		box.id = "hostile";
		const prose = new Prose(box);
		prose.set([
			"<script>window.ran = 1</script>", "<img src=x onerror='window.ran = 2'>", "![secret](http://127.0.0.1:9/leak?q=1)",
			"[a](javascript:window.ran=3)", "[b](data:text/html,<script>window.ran=4</script>)", "[c](file:///etc/passwd)", "[d](https://example.org/)",
			"<a href='JaVaScRiPt:window.ran=5'>e</a>", "<svg onload='window.ran = 6'><style>*{display:none}</style></svg>",
			"<iframe src='http://127.0.0.1:9/'></iframe><form action='http://127.0.0.1:9/'><input name=q></form>",
			"<b onclick='window.ran=7' style='position:fixed;inset:0'>f</b>", "<base href='http://127.0.0.1:9/'>",
		].join("\n\n"));
		prose.draw();
		for (const node of box.querySelectorAll("*")) node.click?.();
	`)
	p.do("wait", chromedp.Sleep(300*time.Millisecond))
	for expression, why := range map[string]string{
		`window.ran === undefined`: "something ran",
		`!document.querySelector("#hostile :is(script, img, iframe, form, input, svg, style, base, object)")`:                              "an element that loads or sends",
		`[...document.querySelectorAll("#hostile [href]")].every((a) => /^https?:/.test(a.getAttribute("href")))`:                          "a link that is no web address",
		`[...document.querySelectorAll("#hostile a[href]")].every((a) => a.rel.includes("noopener") && a.target === "_blank")`:             "a link that keeps its opener",
		`[...document.querySelectorAll("#hostile a")].some((a) => a.textContent.includes("image: secret"))`:                                "the image is not shown as a link",
		`[...document.querySelectorAll("#hostile *")].every((n) => [...n.attributes].every((a) => !/^on|^style$|^id$/.test(a.name)))`:      "an attribute that runs or restyles",
		`performance.getEntriesByType("resource").every((r) => new URL(r.name).origin === location.origin)`:                                "something was fetched from elsewhere",
		`[...document.querySelectorAll("#hostile a")].find((a) => a.textContent === "d")?.getAttribute("href") === "https://example.org/"`: "an honest link is gone",
	} {
		if !p.is(expression) {
			t.Errorf("%s: %s", why, p.text(`document.querySelector("#hostile").innerHTML`))
		}
	}
}
