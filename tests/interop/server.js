// Serves the sites of a JSON file over TLS on Unix sockets, for the interoperation tests.
'use strict';
const fs = require('fs');
const http2 = require('http2');
const https = require('https');
const zlib = require('zlib');

function options(site) {
  const chosen = {
    cert: fs.readFileSync(site.chain),
    key: fs.readFileSync(site.key),
    minVersion: 'TLSv1.3',
    ALPNProtocols: ['http/1.1'],
  };
  if (site.group) chosen.ecdhCurve = site.group;
  if (site.suite) chosen.ciphers = site.suite;
  if (site.trait === 'tls12') Object.assign(chosen, { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' });
  if (site.trait === 'client-certificate') {
    Object.assign(chosen, { requestCert: true, rejectUnauthorized: false });
  }
  if (site.trait === 'weak-key') chosen.ciphers = 'DEFAULT:@SECLEVEL=0';
  return chosen;
}

function answer(site, response) {
  const body = Buffer.from(site.body);
  response.setHeader('Content-Type', 'application/json');
  if (site.trait === 'chunked') {
    // A write for every few bytes: a chunk and a record each.
    for (let at = 0; at < body.length; at += 40) response.write(body.subarray(at, at + 40));
    response.end();
  } else if (site.trait === 'trailers') {
    response.setHeader('Trailer', 'Checksum');
    response.write(body);
    response.addTrailers({ Checksum: 'none' });
    response.end();
  } else if (site.trait === 'gzip') {
    response.setHeader('Content-Encoding', 'gzip');
    response.end(zlib.gzipSync(body));
  } else {
    if (site.trait === 'interim') response.writeProcessing();
    response.setHeader('Content-Length', body.length);
    response.end(body);
  }
}

for (const site of JSON.parse(fs.readFileSync(process.argv[2]))) {
  const serve = (request, response) => answer(site, response);
  const server = site.trait === 'h2'
    ? http2.createSecureServer({ ...options(site), ALPNProtocols: ['h2'] }, serve)
    : https.createServer(options(site), serve);
  server.on('error', (error) => { throw error; });
  server.listen(site.socket);
}
