package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A key of type 0x04, which the library lets its users add.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func newCosigner(vkey string) (*cosigner, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("%q is no vkey", vkey)
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 33 || key[0] != 4 {
		return nil, fmt.Errorf("%q is no vkey of type 4", vkey)
	}
	var hash uint32
	if _, err := fmt.Sscanf(parts[1], "%08x", &hash); err != nil {
		return nil, err
	}
	return &cosigner{parts[0], hash, key[1:]}, nil
}

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.hash }
func (c *cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 72 {
		return false
	}
	time := binary.BigEndian.Uint64(sig)
	message := append([]byte(fmt.Sprintf("cosignature/v1\ntime %d\n", time)), msg...)
	return ed25519.Verify(c.key, message, sig[8:])
}

// A checkpoint's text: the library has its own, with another first line.
func parseTree(text string) (tree tlog.Tree, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return tree, fmt.Errorf("a checkpoint of %d lines", len(lines)-1)
	}
	if _, err = fmt.Sscanf(lines[1], "%d", &tree.N); err != nil {
		return tree, err
	}
	tree.Hash, err = tlog.ParseHash(lines[2])
	return tree, err
}

// A log over HTTP, with the paths of tlog-tiles: the library's own name the tiles' height as well.
type server struct {
	url  string
	held map[string][]byte
}

func (s server) get(path string) ([]byte, error) {
	if data, ok := s.held[path]; ok {
		return data, nil
	}
	answer, err := http.Get(s.url + "/" + path)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != 200 {
		return nil, fmt.Errorf("%s: %s", path, answer.Status)
	}
	data, err := io.ReadAll(answer.Body)
	s.held[path] = data
	return data, err
}

func (s server) Height() int { return 8 }
func (s server) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, err := s.get(staticPath(tile))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}
func (s server) SaveTiles(tiles []tlog.Tile, data [][]byte) {}

func staticPath(tile tlog.Tile) string {
	return strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
}

func bundlePath(n int64, width int) string {
	tile := tlog.Tile{H: 8, L: 0, N: n, W: width}
	return strings.Replace(tile.Path(), "tile/8/0/", "tile/entries/", 1)
}

func read(url, vkey, clock string) error {
	log := server{url, map[string][]byte{}}
	signed, err := log.get("checkpoint")
	if err != nil {
		return err
	}
	key, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	second, err := newCosigner(clock)
	if err != nil {
		return err
	}
	opened, err := note.Open(signed, note.VerifierList(key, second))
	if err != nil {
		return err
	}
	if len(opened.Sigs) != 2 || len(opened.UnverifiedSigs) != 0 {
		return fmt.Errorf("%d signatures of 2 are known", len(opened.Sigs))
	}
	tree, err := parseTree(opened.Text)
	if err != nil {
		return err
	}
	reader := tlog.TileHashReader(tree, log)
	entries, err := proveEntries(log, tree, reader)
	if err != nil {
		return err
	}
	if err := proveTrees(tree, reader); err != nil {
		return err
	}
	fmt.Printf("%d %v %d %d\n", tree.N, tree.Hash, entries, tree.N)
	return nil
}

func proveEntries(log server, tree tlog.Tree, reader tlog.HashReader) (int64, error) {
	var n int64
	for bundle := int64(0); bundle*256 < tree.N; bundle++ {
		width := 256
		if left := tree.N - bundle*256; left < 256 {
			width = int(left)
		}
		data, err := log.get(bundlePath(bundle, width))
		if err != nil {
			return n, err
		}
		for at := bytes.NewReader(data); at.Len() > 0; n++ {
			var length uint16
			if err := binary.Read(at, binary.BigEndian, &length); err != nil {
				return n, err
			}
			entry := make([]byte, length)
			if _, err := io.ReadFull(at, entry); err != nil {
				return n, err
			}
			proof, err := tlog.ProveRecord(tree.N, n, reader)
			if err != nil {
				return n, err
			}
			if err := tlog.CheckRecord(proof, tree.N, tree.Hash, n, tlog.RecordHash(entry)); err != nil {
				return n, fmt.Errorf("entry %d: %w", n, err)
			}
		}
	}
	return n, nil
}

// Every smaller tree is the beginning of this one, and no other is.
func proveTrees(tree tlog.Tree, reader tlog.HashReader) error {
	for old := int64(1); old <= tree.N; old++ {
		root, err := tlog.TreeHash(old, reader)
		if err != nil {
			return err
		}
		proof, err := tlog.ProveTree(tree.N, old, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, old, root); err != nil {
			return fmt.Errorf("tree %d: %w", old, err)
		}
		root[0] ^= 1
		if tlog.CheckTree(proof, tree.N, tree.Hash, old, root) == nil {
			return fmt.Errorf("tree %d: another root passes", old)
		}
	}
	return nil
}
