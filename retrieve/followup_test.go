package retrieve

import "testing"

func TestFollowsUp(t *testing.T) {
	for question, want := range map[string]bool{
		"Why?": true, "And on Windows?": true, "How large is it?": true, "What about the toll for a bicycle?": true,
		"Who built them in the first place?": true, "Is that enough for ten users?": true, "Can I change this?": true,
		"Why is the cache small?": false, "Which port does the backup use?": false, "How do I freeze Tkinter applications?": false,
		"Why did the designers say that the cache is small?": false, "Does the server need a restart after a change of the port?": false,
		"?": true, "Warum?": true,
	} {
		if got := FollowsUp(question); got != want {
			t.Errorf("%q: %v", question, got)
		}
	}
}

func TestReworded(t *testing.T) {
	last := Turn{Question: "Which port does the backup use?", Answer: "The backup uses port 8873 [1]."}
	for _, c := range []struct{ name, question, wording, want string }{
		{"right", "Can it be changed?", " Can the port of the backup be changed?\n", "Can the port of the backup be changed?"},
		{"nothing", "Can it be changed?", "", ""},
		{"the same again", "Can it be changed?", "Can it be changed?", ""},
		{"no question", "Can it be changed?", "The port of the backup can be changed.", ""},
		{"something new", "Can it be changed?", "Can the port of the mail server be changed?", ""},
		{"another question", "Can it be changed?", "Which port does the backup use?", ""},
	} {
		if got := Reworded(last, c.question, c.wording); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	messages := Rewriting(last, "Can it be changed?")
	if text := messages[len(messages)-1].Content; text != "Question: Which port does the backup use?\nAnswer: The backup uses port 8873.\nFollow-up: Can it be changed?\nReworded follow-up:" {
		t.Errorf("asked %q", text)
	}
}
