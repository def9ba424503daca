package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A log in memory: all hashes by their storage index, and the records.
type ownLog struct {
	origin  string
	vkey    string
	signer  note.Signer
	hashes  []tlog.Hash
	records [][]byte
}

// Whoever has the same seed has the same key.
type seed byte

func (s seed) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s)
	}
	return len(p), nil
}

func newLog(origin string, from seed) (*ownLog, error) {
	skey, vkey, err := note.GenerateKey(from, origin)
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(skey)
	return &ownLog{origin: origin, vkey: vkey, signer: signer}, err
}

func (l *ownLog) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var all []tlog.Hash
	for _, index := range indexes {
		all = append(all, l.hashes[index])
	}
	return all, nil
}

func (l *ownLog) size() int64 { return int64(len(l.records)) }

// Grows to this size. Entries have any length, and are not this project's.
func (l *ownLog) grow(to int64, word string) error {
	for n := l.size(); n < to; n++ {
		record := []byte(fmt.Sprintf("%s %d of %s%s", word, n, l.origin, strings.Repeat("!", int(n%30))))
		hashes, err := tlog.StoredHashes(n, record, l)
		if err != nil {
			return err
		}
		l.hashes = append(l.hashes, hashes...)
		l.records = append(l.records, record)
	}
	return nil
}

// The signed head of the first so many records, with these extension lines.
func (l *ownLog) head(size int64, extension string) ([]byte, error) {
	root, err := tlog.TreeHash(size, l)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("%s\n%d\n%v\n%s", l.origin, size, root, extension)
	return note.Sign(&note.Note{Text: text}, l.signer)
}

// The lines of a consistency proof.
func (l *ownLog) proof(old, size int64) (string, error) {
	if old == 0 || old == size {
		return "", nil
	}
	proof, err := tlog.ProveTree(size, old, l)
	var lines strings.Builder
	for _, hash := range proof {
		fmt.Fprintln(&lines, hash)
	}
	return lines.String(), err
}

func makeLog(dir, origin string, sizes []int64) error {
	log, err := newLog(origin, 7)
	if err != nil {
		return err
	}
	for _, size := range sizes {
		old := log.size()
		if err := log.grow(size, "record"); err != nil {
			return err
		}
		if err := log.writeTiles(filepath.Join(dir, "tiles"), old); err != nil {
			return err
		}
		head, err := log.head(size, "")
		if err != nil {
			return err
		}
		lines, err := log.proof(old, size)
		if err != nil {
			return err
		}
		files := map[string][]byte{
			fmt.Sprintf("heads/%020d.note", size): head,
			"tiles/checkpoint":                    head,
		}
		if old > 0 {
			files[fmt.Sprintf("proofs/%d-%d", old, size)] = []byte(lines)
		}
		for path, data := range files {
			if err := put(filepath.Join(dir, path), data); err != nil {
				return err
			}
		}
	}
	return put(filepath.Join(dir, "vkey"), []byte(log.vkey))
}

func (l *ownLog) writeTiles(dir string, old int64) error {
	for _, tile := range tlog.NewTiles(8, old, l.size()) {
		// The library names the widths in between as well.
		if tile.W < 256 && tile.N<<8+int64(tile.W) != l.size()>>(8*tile.L) {
			continue
		}
		data, err := tlog.ReadTileData(tile, l)
		if err != nil {
			return err
		}
		if err := put(filepath.Join(dir, staticPath(tile)), data); err != nil {
			return err
		}
	}
	for bundle := old / 256; bundle*256 < l.size(); bundle++ {
		records := l.records[bundle*256:]
		if len(records) > 256 {
			records = records[:256]
		}
		var data bytes.Buffer
		for _, record := range records {
			if err := binary.Write(&data, binary.BigEndian, uint16(len(record))); err != nil {
				return err
			}
			data.Write(record)
		}
		if err := put(filepath.Join(dir, bundlePath(bundle, len(records))), data.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func put(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
