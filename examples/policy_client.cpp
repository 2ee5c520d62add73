// Ask a policy server (`onestride serve FOLDER`) from C++: one file, POSIX sockets, no library.
//
//     c++ -std=c++17 -O2 -Wall -Wextra policy_client.cpp -o policy_client
//     ./policy_client 127.0.0.1 8000 3 0.1 0.2 0.3      # three requests about the observation (0.1, 0.2, 0.3)
//
// It prints the actions, a line per row. $ONESTRIDE_API_KEY is sent where it is set. Exit codes: 0 answered, 1 refused
// by the server in words, 2 wrong usage, 3 late or gone: then a robot has to fall back (follow the rest of its last
// plan, slow down, hold, stop), and must not wait.
//
// What is here of the protocols is what such a client needs: no TLS, no compression. Take a websocket library and a
// msgpack library where your project has them; the messages are described in docs/serve.md.

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr double kTimeout = 0.5;          // of an answer [s]; a control loop takes its period
constexpr uint64_t kLargest = 64u << 20;  // answer that is read [bytes]
constexpr double kMost = 65536;           // rows, or numbers of an action
constexpr int kDeepest = 32;              // maps and lists within one another

struct Lost : std::runtime_error {  // late, gone, or no websocket
  using std::runtime_error::runtime_error;
};
struct Refused : std::runtime_error {  // the server's words
  using std::runtime_error::runtime_error;
};

// ---------------------------------------------------------------- websocket (RFC 6455)

struct Descriptor {
  int number = -1;
  ~Descriptor() {
    if (number >= 0) close(number);
  }
};

class WebSocket {
 public:
  WebSocket(const std::string& host, const std::string& port, const char* key) {
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) throw Lost("no such address: " + host);
    for (addrinfo* each = found; each != nullptr && socket_.number < 0; each = each->ai_next) {
      socket_.number = ::socket(each->ai_family, each->ai_socktype, each->ai_protocol);
      if (socket_.number < 0) continue;
      timeval wait{static_cast<time_t>(kTimeout), static_cast<suseconds_t>(1e6 * (kTimeout - int(kTimeout)))};
      int on = 1;
      setsockopt(socket_.number, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
      setsockopt(socket_.number, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
      setsockopt(socket_.number, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      if (connect(socket_.number, each->ai_addr, each->ai_addrlen) != 0) {
        close(socket_.number);
        socket_.number = -1;
      }
    }
    freeaddrinfo(found);
    if (socket_.number < 0) throw Lost("no policy server at " + host + ":" + port);
    std::string ask = "GET / HTTP/1.1\r\nHost: " + host + ":" + port +
                      "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                      "Sec-WebSocket-Key: " +
                      nonce() + "\r\n";
    if (key != nullptr) ask += std::string("Authorization: Api-Key ") + key + "\r\n";
    write(ask + "\r\n");
    std::string head;
    while (head.size() < 4 || head.compare(head.size() - 4, 4, "\r\n\r\n") != 0) {
      if (head.size() > 16384) throw Lost("no websocket there");
      head += read(1);
    }
    if (head.compare(0, 12, "HTTP/1.1 101") != 0) throw Refused(head.substr(0, head.find('\r')));
  }
  WebSocket(const WebSocket&) = delete;
  WebSocket& operator=(const WebSocket&) = delete;

  void send(const std::string& message) {
    asked_ = Clock::now();
    frame(2, message);
  }

  // The next message; Refused where it is text, which is an error in a line.
  std::string receive() {
    std::string message;
    int kind = 0;
    for (;;) {
      const std::string head = read(2);
      const int code = head[0] & 15;
      const bool last = (head[0] & 128) != 0;
      uint64_t size = head[1] & 127;
      if (size > 125) {
        const std::string wide = read(size == 126 ? 2 : 8);
        size = 0;
        for (const char byte : wide) size = size << 8 | static_cast<uint8_t>(byte);
      }
      if (size > kLargest - message.size()) throw Lost("the answer is too large");
      const std::string part = read(size);
      if (code == 8) throw Lost("the server closed: " + (part.size() > 2 ? part.substr(2) : std::string()));
      if (code == 9) frame(10, part);  // a ping is answered
      if (code >= 8) continue;
      if (code != 0) kind = code;
      message += part;
      if (!last) continue;
      if (kind == 1) throw Refused(message);
      return message;
    }
  }

 private:
  using Clock = std::chrono::steady_clock;

  Descriptor socket_;
  std::random_device random_;
  Clock::time_point asked_ = Clock::now();

  std::string nonce() {  // 16 random bytes in base 64
    const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string made;
    for (int i = 0; i < 21; ++i) made += digits[random_() % 64];
    return made + digits[random_() % 4 * 16] + "==";
  }
  void frame(int code, const std::string& body) {
    std::string made(1, static_cast<char>(128 | code));
    const uint64_t size = body.size();
    if (size < 126) {
      made += static_cast<char>(128 | size);
    } else {
      const int bytes = size < 65536 ? 2 : 8;
      made += static_cast<char>(128 | (bytes == 2 ? 126 : 127));
      for (int i = bytes - 1; i >= 0; --i) made += static_cast<char>(size >> (8 * i));
    }
    char mask[4];
    for (char& byte : mask) byte = static_cast<char>(random_());
    made.append(mask, 4);
    for (size_t i = 0; i < body.size(); ++i) made += static_cast<char>(body[i] ^ mask[i % 4]);
    write(made);
  }
  void write(const std::string& bytes) {
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t n = ::send(socket_.number, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
      if (n <= 0) throw Lost(std::string("the server takes nothing more: ") + std::strerror(errno));
      done += static_cast<size_t>(n);
    }
  }
  std::string read(uint64_t size) {
    std::string bytes(size, '\0');
    for (uint64_t done = 0; done < size;) {
      if (Clock::now() - asked_ > std::chrono::duration<double>(kTimeout)) throw Lost("no answer in time");
      const ssize_t n = recv(socket_.number, &bytes[done], size - done, 0);
      if (n == 0) throw Lost("the server is gone");
      if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) throw Lost("no answer in time");
      if (n < 0) throw Lost(std::strerror(errno));
      done += static_cast<uint64_t>(n);
    }
    return bytes;
  }
};

// ---------------------------------------------------------------- msgpack

std::string big_endian(uint64_t value, int bytes) {
  std::string made;
  for (int i = bytes - 1; i >= 0; --i) made += static_cast<char>(value >> (8 * i));
  return made;
}
std::string text(const std::string& value) { return '\xd9' + big_endian(value.size(), 1) + value; }  // up to 255 bytes

// A vector of float64 as NumPy's array in openpi's encoding; an image is the same with dtype "|u1" and its shape.
std::string array(const std::vector<double>& values) {
  static_assert(sizeof(double) == 8, "IEEE double");
  const std::string data(reinterpret_cast<const char*>(values.data()), 8 * values.size());
  return '\x84' + text("__ndarray__") + '\xc3' + text("dtype") + text("<f8") +  // of a little-endian machine
         text("shape") + '\x91' + '\xce' + big_endian(values.size(), 4) + text("data") + '\xc6' +
         big_endian(data.size(), 4) + data;
}

struct Value {
  enum Kind { Nothing, Number, Bytes, List, Map } kind = Nothing;
  double number = 0;
  std::string bytes;  // of text too
  std::vector<Value> list;
  std::map<std::string, Value> map;

  const Value& at(const std::string& key) const {
    const auto found = map.find(key);
    if (found == map.end()) throw Lost("the answer has no '" + key + "'");
    return found->second;
  }
};

class Reader {
 public:
  explicit Reader(const std::string& data) : data_(data) {}

  Value value(int depth = 0) {
    if (depth > kDeepest) throw Lost("the answer is nested too deeply");
    const uint8_t code = static_cast<uint8_t>(take(1)[0]);
    Value made;
    if (code < 0x80) return number(code);
    if (code >= 0xe0) return number(static_cast<int8_t>(code));
    if (code < 0x90) return map(code & 15, depth);
    if (code < 0xa0) return list(code & 15, depth);
    if (code < 0xc0) return bytes(code & 31);
    switch (code) {
      case 0xc0: return made;
      case 0xc2: return number(0);
      case 0xc3: return number(1);
      case 0xc4:
      case 0xc5:
      case 0xc6: return bytes(whole(1 << (code - 0xc4)));
      case 0xca: {
        const uint32_t raw = static_cast<uint32_t>(whole(4));
        float x;
        std::memcpy(&x, &raw, 4);
        return number(x);
      }
      case 0xcb: {
        const uint64_t raw = whole(8);
        double x;
        std::memcpy(&x, &raw, 8);
        return number(x);
      }
      case 0xcc:
      case 0xcd:
      case 0xce:
      case 0xcf: return number(static_cast<double>(whole(1 << (code - 0xcc))));
      case 0xd0: return number(static_cast<int8_t>(whole(1)));
      case 0xd1: return number(static_cast<int16_t>(whole(2)));
      case 0xd2: return number(static_cast<int32_t>(whole(4)));
      case 0xd3: return number(static_cast<double>(static_cast<int64_t>(whole(8))));
      case 0xd9:
      case 0xda:
      case 0xdb: return bytes(whole(1 << (code - 0xd9)));
      case 0xdc:
      case 0xdd: return list(whole(2 << (code - 0xdc)), depth);
      case 0xde:
      case 0xdf: return map(whole(2 << (code - 0xde)), depth);
      default: throw Lost("the answer is no msgpack of numbers");
    }
  }

 private:
  const std::string& data_;
  size_t at_ = 0;

  std::string take(uint64_t size) {
    if (size > data_.size() - at_) throw Lost("the answer is cut short");
    at_ += size;
    return data_.substr(at_ - size, size);
  }
  uint64_t whole(int bytes) {
    uint64_t made = 0;
    for (const char byte : take(static_cast<uint64_t>(bytes))) made = made << 8 | static_cast<uint8_t>(byte);
    return made;
  }
  static Value number(double x) {
    Value made;
    made.kind = Value::Number;
    made.number = x;
    return made;
  }
  Value bytes(uint64_t size) {
    Value made;
    made.kind = Value::Bytes;
    made.bytes = take(size);
    return made;
  }
  Value list(uint64_t count, int depth) {
    Value made;
    made.kind = Value::List;
    for (uint64_t i = 0; i < count; ++i) made.list.push_back(value(depth + 1));
    return made;
  }
  Value map(uint64_t count, int depth) {
    Value made;
    made.kind = Value::Map;
    for (uint64_t i = 0; i < count; ++i) {
      const Value key = value(depth + 1);
      made.map[key.bytes] = value(depth + 1);
    }
    return made;
  }
};

// The rows of a NumPy array (rows, columns) of float64.
std::vector<std::vector<double>> rows(const Value& given) {
  const std::vector<Value>& shape = given.at("shape").list;
  const std::string& data = given.at("data").bytes;
  if (given.at("dtype").bytes != "<f8" || shape.size() != 2) throw Lost("the actions are no matrix of float64");
  const double high = shape[0].number, wide = shape[1].number;
  if (!(high >= 0 && high <= kMost && wide >= 1 && wide <= kMost)) throw Lost("the actions are no matrix");
  const size_t count = static_cast<size_t>(high), columns = static_cast<size_t>(wide);
  if (data.size() != 8 * count * columns) throw Lost("the actions are cut short");
  std::vector<std::vector<double>> made(count, std::vector<double>(columns));
  for (size_t i = 0; i < count; ++i) std::memcpy(made[i].data(), data.data() + 8 * i * columns, 8 * columns);
  return made;
}

}  // namespace

int main(int count, char** words) {
  if (count < 5) {
    std::fprintf(stderr, "usage: %s HOST PORT REQUESTS NUMBER [NUMBER ...]\n", words[0]);
    return 2;
  }
  std::vector<double> observation;
  for (int i = 4; i < count; ++i) observation.push_back(std::strtod(words[i], nullptr));
  try {
    WebSocket server(words[1], words[2], std::getenv("ONESTRIDE_API_KEY"));
    const std::string greeting = server.receive();
    const Value metadata = Reader(greeting).value();
    std::fprintf(stderr, "task %s, %g actions of %g numbers per request\n", metadata.at("task").bytes.c_str(),
                 metadata.at("n_action_steps").number, metadata.at("action_dim").number);
    for (int i = 0; i < std::atoi(words[3]); ++i) {
      server.send('\x81' + text("observation") + array(observation));
      const std::string message = server.receive();
      for (const std::vector<double>& action : rows(Reader(message).value().at("actions"))) {
        for (const double number : action) std::printf("%.17g ", number);
        std::printf("\n");
      }
    }
  } catch (const Refused& error) {
    std::fprintf(stderr, "refused: %s\n", error.what());
    return 1;
  } catch (const Lost& error) {
    std::fprintf(stderr, "no answer: %s\n", error.what());
    return 3;
  }
  return 0;
}
