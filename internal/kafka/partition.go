package kafka

// PartitionFor returns the partition of a key among n, as Kafka's Java clients
// compute it, so that records written by other tools land beside ours.
// n must be positive.
func PartitionFor(key []byte, n int) int32 {
	return int32((murmur2(key) & 0x7fffffff) % uint32(n))
}

// murmur2 is Austin Appleby's MurmurHash2 in 32 bits with Kafka's seed.
func murmur2(data []byte) uint32 {
	const (
		seed = 0x9747b28c
		mul  = 0x5bd1e995
	)
	h := uint32(seed) ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16 | uint32(data[3])<<24
		k *= mul
		k ^= k >> 24
		h = h*mul ^ k*mul
	}
	if len(data) > 0 {
		for i, b := range data {
			h ^= uint32(b) << (8 * i)
		}
		h *= mul
	}
	h ^= h >> 13
	h *= mul
	return h ^ h>>15
}
