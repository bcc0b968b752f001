package wechattest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// paddingBlock is the block of the PKCS#7 padding: 32, although the cipher's
// own block is 16. Paddings of 17 to 32 bytes are therefore usual.
const paddingBlock = 32

// sign is WeChat's signature: the lower-case hex SHA-1 of its sorted parts.
// With the ciphertext among the parts it is the msg_signature.
func sign(parts ...string) string {
	sorted := slices.Sorted(slices.Values(parts))
	sum := sha1.Sum([]byte(strings.Join(sorted, "")))
	return hex.EncodeToString(sum[:])
}

// seal encrypts a push: AES-256-CBC over 16 random bytes, the length of the
// message, the message and the receiver's appid (for a third-party platform,
// the platform's), the key's first half being the initialisation vector.
func seal(encodingKey, appid string, random [16]byte, message []byte) (string, error) {
	// The last character of an EncodingAESKey may carry trailing bits that a
	// strict decoder refuses; WeChat's own sample keys do.
	key, err := base64.StdEncoding.DecodeString(encodingKey + "=")
	if err != nil {
		return "", fmt.Errorf("decode the EncodingAESKey: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", fmt.Errorf("use the EncodingAESKey: %w", err)
	}
	var text bytes.Buffer
	text.Write(random[:])
	text.Write(binary.BigEndian.AppendUint32(nil, uint32(len(message))))
	text.Write(message)
	text.WriteString(appid)
	padding := paddingBlock - text.Len()%paddingBlock
	text.Write(bytes.Repeat([]byte{byte(padding)}, padding))

	sealed := text.Bytes()
	cipher.NewCBCEncrypter(block, key[:block.BlockSize()]).CryptBlocks(sealed, sealed)
	return base64.StdEncoding.EncodeToString(sealed), nil
}
