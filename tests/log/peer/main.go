// A peer for tests/log: answers questions about our log with golang.org/x/mod/sumdb.
//
// Reads a JSON array of questions from standard input and writes the array of its
// answers.  Bytes travel as base64; a question that fails is answered {"error": ...}.
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type question struct {
	Op      string
	Note    []byte
	Text    string
	Keys    []string // vkeys, or the one private key of "sign"
	Root    []byte
	OldRoot []byte
	Leaf    []byte
	Proof   [][]byte
	Size    int64
	OldSize int64
	Index   int64
	Folder  string
}

type answer struct {
	Error   string   `json:"error,omitempty"`
	Text    string   `json:"text,omitempty"`
	Keys    []string `json:"keys,omitempty"`
	Proof   [][]byte `json:"proof,omitempty"`
	Note    []byte   `json:"note,omitempty"`
	Paths   []string `json:"paths,omitempty"`
	Visited int      `json:"visited,omitempty"`
}

func main() {
	var questions []question
	if err := json.NewDecoder(os.Stdin).Decode(&questions); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	answers := []answer{}
	for _, q := range questions {
		a, err := reply(q)
		if err != nil {
			a = answer{Error: err.Error()}
		}
		answers = append(answers, a)
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		os.Exit(2)
	}
}

func reply(q question) (answer, error) {
	switch q.Op {
	case "open":
		return open(q)
	case "sign":
		signer, err := note.NewSigner(q.Keys[0])
		if err != nil {
			return answer{}, err
		}
		signed, err := note.Sign(&note.Note{Text: q.Text}, signer)
		return answer{Note: signed}, err
	case "head":
		return answer{Text: string(tlog.FormatTree(tlog.Tree{N: q.Size, Hash: hash(q.Root)}))}, nil
	case "included":
		proof := make(tlog.RecordProof, len(q.Proof))
		for i, node := range q.Proof {
			proof[i] = hash(node)
		}
		return answer{}, tlog.CheckRecord(proof, q.Size, hash(q.Root), q.Index, hash(q.Leaf))
	case "consistent":
		proof := make(tlog.TreeProof, len(q.Proof))
		for i, node := range q.Proof {
			proof[i] = hash(node)
		}
		return answer{}, tlog.CheckTree(proof, q.Size, hash(q.Root), q.OldSize, hash(q.OldRoot))
	case "tiles":
		return tiles(q)
	case "prove":
		return prove(q)
	case "visit":
		return visit(q)
	}
	return answer{}, errors.New("unknown question")
}

func hash(data []byte) (h tlog.Hash) {
	if len(data) != tlog.HashSize {
		panic("not a hash")
	}
	copy(h[:], data)
	return h
}

func open(q question) (answer, error) {
	var known []note.Verifier
	for _, vkey := range q.Keys {
		verifier, err := newVerifier(vkey)
		if err != nil {
			return answer{}, err
		}
		known = append(known, verifier)
	}
	opened, err := note.Open(q.Note, note.VerifierList(known...))
	if err != nil {
		return answer{}, err
	}
	a := answer{Text: opened.Text}
	for _, signature := range opened.Sigs {
		a.Keys = append(a.Keys, signature.Name)
	}
	return a, nil
}

// newVerifier takes what x/mod takes, and cosigners of c2sp.org/tlog-cosignature.
func newVerifier(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) == 3 {
		key, err := base64.StdEncoding.DecodeString(parts[2])
		if err == nil && len(key) == 33 && key[0] == 4 {
			digest := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
			if fmt.Sprintf("%x", digest[:4]) != parts[1] {
				return nil, errors.New("key id does not recompute")
			}
			return cosigner{parts[0], binary.BigEndian.Uint32(digest[:4]), key[1:]}, nil
		}
	}
	return note.NewVerifier(vkey)
}

type cosigner struct {
	name string
	id   uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.id }
func (c cosigner) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	time := binary.BigEndian.Uint64(signature)
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", time, text)
	return ed25519.Verify(c.key, []byte(message), signature[8:])
}

// files reads tiles of a log's folder, at the paths of c2sp.org/tlog-tiles.
type files struct{ folder string }

func (f files) Height() int                                { return 8 }
func (f files) SaveTiles(tiles []tlog.Tile, data [][]byte) {}
func (f files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, err := os.ReadFile(filepath.Join(f.folder, path(tile)))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

// path is x/mod's without the height, which tlog-tiles fixes at 8.
func path(tile tlog.Tile) string {
	return strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
}

func tiles(q question) (answer, error) {
	var a answer
	for _, tile := range tlog.NewTiles(8, q.OldSize, q.Size) {
		a.Paths = append(a.Paths, path(tile))
	}
	return a, nil
}

// prove reads both proofs from the tiles; TileHashReader checks the tiles against the root.
func prove(q question) (answer, error) {
	reader := tlog.TileHashReader(tlog.Tree{N: q.Size, Hash: hash(q.Root)}, files{q.Folder})
	var a answer
	if q.OldSize > 0 {
		proof, err := tlog.ProveTree(q.Size, q.OldSize, reader)
		for _, node := range proof {
			a.Proof = append(a.Proof, append([]byte{}, node[:]...))
		}
		return a, err
	}
	proof, err := tlog.ProveRecord(q.Size, q.Index, reader)
	for _, node := range proof {
		a.Proof = append(a.Proof, append([]byte{}, node[:]...))
	}
	return a, err
}

// visit hashes every entry of the bundles and compares it with the tree.
func visit(q question) (answer, error) {
	reader := tlog.TileHashReader(tlog.Tree{N: q.Size, Hash: hash(q.Root)}, files{q.Folder})
	var a answer
	for index := int64(0); index < q.Size; {
		tile := tlog.Tile{H: 8, L: 0, N: index / 256, W: 256}
		if rest := q.Size - index; rest < 256 {
			tile.W = int(rest)
		}
		place := strings.Replace(path(tile), "tile/0/", "tile/entries/", 1)
		data, err := os.ReadFile(filepath.Join(q.Folder, place))
		if err != nil {
			return a, err
		}
		for len(data) > 0 {
			if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
				return a, errors.New("bundle ends inside an entry")
			}
			entry := data[2 : 2+int(binary.BigEndian.Uint16(data))]
			data = data[2+len(entry):]
			stored, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
			if err != nil {
				return a, err
			}
			if stored[0] != tlog.RecordHash(entry) {
				return a, fmt.Errorf("entry %d is not in the tree", index)
			}
			index++
			a.Visited++
		}
	}
	return a, nil
}
