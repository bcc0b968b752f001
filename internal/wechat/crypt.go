package wechat

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

const (
	// encodedKeyLen is the length of an EncodingAESKey: the Base64 of 32 bytes
	// without its padding.
	encodedKeyLen = 43
	// padBlock is the block of WeChat's PKCS#7, which is not the 16 of AES:
	// published messages end in up to 32 bytes of padding.
	padBlock = 32
	// randomLen and headLen are what stands before the message: random bytes,
	// then the length of the message as a big-endian uint32.
	randomLen = 16
	headLen   = randomLen + 4
)

// Sign returns WeChat's signature: the lower-case hexadecimal SHA-1 of the
// token, timestamp and nonce, sorted and joined. Given the encrypted message as
// a fourth part it returns the msg_signature, which alone covers the message.
func Sign(token, timestamp, nonce string, encrypt ...string) string {
	parts := append([]string{token, timestamp, nonce}, encrypt...)
	slices.Sort(parts)
	h := sha1.New()
	for _, p := range parts {
		_, _ = io.WriteString(h, p) // a hash never fails to take bytes
	}
	return hex.EncodeToString(h.Sum(nil))
}

// sameSignature compares in constant time, so that answers do not tell an
// attacker how many characters of a guess were right.
func sameSignature(want, got string) bool {
	return subtle.ConstantTimeCompare([]byte(want), []byte(got)) == 1
}

// Encrypt returns msg as WeChat would send it to the account or component
// appid: Base64 of AES-256-CBC over random, length, msg and appid. aesKey is an
// EncodingAESKey of 43 characters. Random bytes are the caller's, so that
// published vectors can be reproduced; use fresh ones otherwise.
func Encrypt(aesKey, appid string, random [randomLen]byte, msg []byte) (string, error) {
	k, err := parseKey(aesKey)
	if err != nil {
		return "", err
	}
	return k.encrypt(appid, random, msg)
}

// key is a decoded EncodingAESKey.
type key struct {
	block cipher.Block
	iv    []byte // WeChat uses the first half of the key
}

// parseKey decodes an EncodingAESKey. Its errors never quote it.
func parseKey(encoded string) (key, error) {
	if len(encoded) != encodedKeyLen {
		return key{}, fmt.Errorf("EncodingAESKey has %d characters, want %d", len(encoded), encodedKeyLen)
	}
	// Not Strict: the last character of WeChat's own sample keys has bits set
	// that a strict decoder refuses.
	raw, err := base64.StdEncoding.DecodeString(encoded + "=")
	if err != nil || len(raw) != 32 {
		return key{}, errors.New("EncodingAESKey is not made of letters and digits only")
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return key{}, errors.New("EncodingAESKey does not make an AES-256 key")
	}
	return key{block: block, iv: raw[:aes.BlockSize]}, nil
}

func (k key) encrypt(appid string, random [randomLen]byte, msg []byte) (string, error) {
	if uint64(len(msg)) > math.MaxInt32 {
		return "", fmt.Errorf("message of %d bytes is too long to encrypt", len(msg))
	}
	pad := padBlock - (headLen+len(msg)+len(appid))%padBlock
	buf := make([]byte, 0, headLen+len(msg)+len(appid)+pad)
	buf = append(buf, random[:]...)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(msg)))
	buf = append(buf, msg...)
	buf = append(buf, appid...)
	for range pad {
		buf = append(buf, byte(pad))
	}
	cipher.NewCBCEncrypter(k.block, k.iv).CryptBlocks(buf, buf)
	return base64.StdEncoding.EncodeToString(buf), nil
}

// decrypt returns the message and the appid that follows it. The caller has
// checked the msg_signature before, so that telling a wrong padding from other
// faults is no oracle for anybody without the token.
func (k key) decrypt(encoded string) (msg []byte, appid string, err error) {
	buf, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, "", fmt.Errorf("not Base64: %w", err)
	}
	if len(buf) == 0 || len(buf)%padBlock != 0 {
		return nil, "", fmt.Errorf("%d bytes are no whole number of %d-byte blocks", len(buf), padBlock)
	}
	cipher.NewCBCDecrypter(k.block, k.iv).CryptBlocks(buf, buf)
	if buf, err = unpad(buf); err != nil {
		return nil, "", err
	}
	return splitPlain(buf)
}

// unpad removes the padding, checking each of its bytes without stopping at the
// first that is wrong.
func unpad(buf []byte) ([]byte, error) {
	pad := int(buf[len(buf)-1])
	if pad < 1 || pad > padBlock || pad > len(buf) {
		return nil, errors.New("wrong padding: the EncodingAESKey is probably another")
	}
	var diff byte
	for _, b := range buf[len(buf)-pad:] {
		diff |= b ^ byte(pad)
	}
	if diff != 0 {
		return nil, errors.New("wrong padding: the EncodingAESKey is probably another")
	}
	return buf[:len(buf)-pad], nil
}

// splitPlain takes random, length, message and appid apart. The length is
// compared with what is there as an unsigned 64-bit number before anything is
// sliced: trusting it has brought other receivers out of memory.
func splitPlain(buf []byte) (msg []byte, appid string, err error) {
	if len(buf) < headLen {
		return nil, "", fmt.Errorf("%d bytes are too few for a message", len(buf))
	}
	n := uint64(binary.BigEndian.Uint32(buf[randomLen:headLen]))
	rest := buf[headLen:]
	if n > uint64(len(rest)) {
		return nil, "", fmt.Errorf("claims a message of %d bytes, has %d", n, len(rest))
	}
	return rest[:n:n], string(rest[n:]), nil
}
