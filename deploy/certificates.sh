#!/bin/sh
# A certificate authority of one cluster, and certificates that it signed: for trying a cluster out, and for networks that
# have no authority of their own. What is there and still good for a month is kept.
#
# usage: certificates.sh FOLDER NAME...
#
# Writes FOLDER/ca.pem, which everybody trusts, and for each NAME, which others reach it by, FOLDER/NAME.pem and
# FOLDER/NAME.key. FOLDER/ca.key signs: keep it where no process of the cluster can read it.
set -eu
[ $# -ge 2 ] || { echo "usage: certificates.sh FOLDER NAME..." >&2; exit 2; }
folder=$1
shift
umask 077
mkdir -p "$folder"
cd "$folder"

good() { [ -s "$1" ] && openssl x509 -in "$1" -noout -checkend 2592000 >/dev/null; }
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }

if ! good ca.pem; then
    key ca.key
    openssl req -x509 -new -key ca.key -days 3650 -subj "/CN=Gosset cluster" -out ca.pem \
        -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign
    chmod 644 ca.pem
fi
for name; do
    good "$name.pem" && openssl verify -CAfile ca.pem "$name.pem" >/dev/null 2>&1 && continue
    key "$name.key"
    # The name of whoever listens, also where it calls others.
    openssl req -new -key "$name.key" -subj "/CN=$name" \
        -addext "subjectAltName=DNS:$name" \
        -addext basicConstraints=critical,CA:FALSE \
        -addext keyUsage=critical,digitalSignature \
        -addext extendedKeyUsage=serverAuth,clientAuth |
        openssl x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 -copy_extensions copy -out "$name.pem"
    chmod 644 "$name.pem"
done
