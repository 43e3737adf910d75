// Serves the sites of a JSON file over TLS on Unix sockets, for the interoperation tests.
package main

import (
	"compress/gzip"
	"crypto/tls"
	"encoding/json"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
)

type site struct {
	Socket, Chain, Key, Group, Trait, Body string
}

var groups = map[string]tls.CurveID{
	"x25519":    tls.X25519,
	"secp256r1": tls.CurveP256,
	"secp384r1": tls.CurveP384,
	"secp521r1": tls.CurveP521,
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func (s site) config() *tls.Config {
	pair, err := tls.LoadX509KeyPair(s.Chain, s.Key)
	check(err)
	config := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"http/1.1"},
	}
	if s.Group != "" {
		config.CurvePreferences = []tls.CurveID{groups[s.Group]}
	}
	switch s.Trait {
	case "tls12":
		config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	case "client-certificate":
		config.ClientAuth = tls.RequestClientCert
	case "no-tickets":
		config.SessionTicketsDisabled = true
	case "small-records":
		config.DynamicRecordSizingDisabled = false
	case "h2":
		config.NextProtos = []string{"h2"}
	}
	return config
}

func (s site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := os.ReadFile(s.Body)
	check(err)
	w.Header().Set("Content-Type", "application/json")
	switch s.Trait {
	case "chunked":
		// A write and a flush for every few bytes: a chunk and a record each.
		for len(body) > 0 {
			size := 40
			if size > len(body) {
				size = len(body)
			}
			w.Write(body[:size])
			w.(http.Flusher).Flush()
			body = body[size:]
		}
		return
	case "trailers":
		w.Header().Set("Trailer", "Checksum")
		w.Write(body)
		w.Header().Set("Checksum", "none")
		return
	case "gzip":
		w.Header().Set("Content-Encoding", "gzip")
		packed := gzip.NewWriter(w)
		packed.Write(body)
		packed.Close()
		return
	case "interim":
		w.WriteHeader(http.StatusEarlyHints)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body)
}

func main() {
	data, err := os.ReadFile(os.Args[1])
	check(err)
	var sites []site
	check(json.Unmarshal(data, &sites))
	for _, s := range sites {
		listener, err := net.Listen("unix", s.Socket)
		check(err)
		server := &http.Server{Handler: s}
		go func(s site) { check(server.Serve(tls.NewListener(listener, s.config()))) }(s)
	}
	select {}
}
