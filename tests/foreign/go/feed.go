package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A witness, and what it answered so far.
type witness struct {
	url      string
	key      *cosigner
	statuses []string
}

func (w *witness) ask(old int64, proof string, head []byte) (status int, kind, body string, err error) {
	request := fmt.Sprintf("old %d\n%s\n%s", old, proof, head)
	answer, err := http.Post(w.url+"/add-checkpoint", "text/plain", strings.NewReader(request))
	if err != nil {
		return 0, "", "", err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	w.statuses = append(w.statuses, fmt.Sprint(answer.StatusCode))
	return answer.StatusCode, answer.Header.Get("Content-Type"), string(data), err
}

// One request that must have this answer.
func (w *witness) refuses(status int, old int64, proof string, head []byte) error {
	got, _, body, err := w.ask(old, proof, head)
	if err == nil && got != status {
		err = fmt.Errorf("%d and not %d: %s", got, status, body)
	}
	return err
}

// As tlog-witness has it: from nothing, and again from the size that a conflict names.
func (w *witness) cosigned(log *ownLog, head []byte, size int64) error {
	old := int64(0)
	for try := 0; try < 2; try++ {
		lines, err := log.proof(old, size)
		if err != nil {
			return err
		}
		status, kind, body, err := w.ask(old, lines, head)
		if err != nil {
			return err
		}
		switch status {
		case 200:
			opened, err := note.Open(append(head, body...), note.VerifierList(w.key))
			if err != nil {
				return err
			}
			if len(opened.Sigs) != 1 {
				return fmt.Errorf("%d cosignatures", len(opened.Sigs))
			}
			return nil
		case 409:
			if kind != "text/x.tlog.size" {
				return fmt.Errorf("a conflict as %q", kind)
			}
			if _, err := fmt.Sscanf(body, "%d\n", &old); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%d: %s", status, body)
		}
	}
	return fmt.Errorf("a conflict again")
}

func feed(url, vkey, origin string, sizes []int64) error {
	key, err := newCosigner(vkey)
	if err != nil {
		return err
	}
	w := &witness{url: url, key: key}
	log, err := newLog(origin, 7)
	if err != nil {
		return err
	}
	for _, size := range sizes {
		if err := log.grow(size, "record"); err != nil {
			return err
		}
		// Other logs have extension lines, which the witness signs as they stand.
		head, err := log.head(size, "extension of another log\n")
		if err != nil {
			return err
		}
		if err := w.cosigned(log, head, size); err != nil {
			return err
		}
	}
	if err := feedWrong(w, log, sizes[0]); err != nil {
		return err
	}
	fmt.Println(strings.Join(w.statuses, " "))
	return nil
}

// What no witness may cosign, each with its own status.
func feedWrong(w *witness, log *ownLog, smaller int64) error {
	size := log.size()
	head, err := log.head(size, "")
	if err != nil {
		return err
	}
	if err := w.refuses(400, size+1, "", head); err != nil {
		return fmt.Errorf("an old size above the new one: %w", err)
	}
	if err := w.refuses(400, size, "no hash\n", head); err != nil {
		return fmt.Errorf("a proof that is none: %w", err)
	}
	wrongKey, err := newLog(log.origin, 8)
	if err != nil {
		return err
	}
	text := string(head[:bytes.Index(head, []byte("\n\n"))+1])
	unsigned, err := note.Sign(&note.Note{Text: text}, wrongKey.signer)
	if err != nil {
		return err
	}
	if err := w.refuses(403, size, "", unsigned); err != nil {
		return fmt.Errorf("another key's signature: %w", err)
	}
	stranger, err := newLog(log.origin+"/unknown", 7)
	if err != nil {
		return err
	}
	if err := stranger.grow(size, "record"); err != nil {
		return err
	}
	strange, err := stranger.head(size, "")
	if err != nil {
		return err
	}
	if err := w.refuses(404, 0, "", strange); err != nil {
		return fmt.Errorf("another log: %w", err)
	}
	earlier, err := log.head(smaller, "")
	if err != nil {
		return err
	}
	if err := w.refuses(409, 0, "", earlier); err != nil {
		return fmt.Errorf("a smaller head: %w", err)
	}
	return feedFork(w, log)
}

// The same key's other history, and a proof that is one of something else.
func feedFork(w *witness, log *ownLog) error {
	size := log.size()
	fork, err := newLog(log.origin, 7)
	if err != nil {
		return err
	}
	if err := fork.grow(size+5, "forged"); err != nil {
		return err
	}
	same, err := fork.head(size, "")
	if err != nil {
		return err
	}
	if err := w.refuses(409, size, "", same); err != nil {
		return fmt.Errorf("another root at the same size: %w", err)
	}
	larger, err := fork.head(size+5, "")
	if err != nil {
		return err
	}
	lines, err := fork.proof(size, size+5)
	if err != nil {
		return err
	}
	if err := w.refuses(422, size, lines, larger); err != nil {
		return fmt.Errorf("another history: %w", err)
	}
	if err := log.grow(size+5, "record"); err != nil {
		return err
	}
	honest, err := log.head(size+5, "")
	if err != nil {
		return err
	}
	if err := w.refuses(422, size, fmt.Sprintln(tlog.Hash{}), honest); err != nil {
		return fmt.Errorf("a proof of nothing: %w", err)
	}
	return nil
}
