package embedded

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// ports are the engine's, on loopback. http is 0 when HTTP is off.
type ports struct{ tcp, http int }

// Free ports are taken from below the range that systems use for outgoing
// connections (32768 and up on Linux, 49152 and up elsewhere). From inside it,
// an outgoing connection could take the port while the engine is restarted,
// even our own, which would then talk to itself.
const firstPort, lastPort = 20000, 32000

// choosePorts takes the wished ports where they are free, and others where not.
// They can be taken by others before the engine binds them; then one tries
// again.
func choosePorts(c EngineConfig) (ports, error) {
	tcp, err := choosePort(c.TCPPort, 0)
	if err != nil || !c.HTTP {
		return ports{tcp: tcp}, err
	}
	http, err := choosePort(c.HTTPPort, tcp)
	return ports{tcp: tcp, http: http}, err
}

// choosePort finds a free port other than the one that is taken.
func choosePort(wished, taken int) (int, error) {
	if wished != 0 && wished != taken && isFree(wished) {
		return wished, nil
	}
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if port != taken && isFree(port) {
			return port, nil
		}
	}
	return 0, errors.New("found no free port on " + host)
}

func isFree(port int) bool {
	ln, err := net.Listen("tcp", address(port))
	if err != nil {
		return false
	}
	return ln.Close() == nil
}

func address(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

func (p ports) String() string {
	if p.http == 0 {
		return fmt.Sprint(p.tcp)
	}
	return fmt.Sprintf("%d and %d", p.tcp, p.http)
}
