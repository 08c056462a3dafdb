// SPDX-License-Identifier: Apache-2.0
// Wire: a connected socket, with or without TLS, as what Connection needs of it. Only on the I/O thread. Includes Boost.Asio: for the .cc
// files of this folder only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>

namespace boost::asio::ssl {
class context;
}

namespace shoal {

class Wire {
 public:
  using Done = std::function<void(const boost::system::error_code&, size_t bytes)>;

  virtual ~Wire() = default;
  virtual void handshake(std::function<void(const boost::system::error_code&)> done) = 0;
  virtual void read_some(boost::asio::mutable_buffer buffer, Done done) = 0;
  virtual void write_some(boost::asio::const_buffer buffer, Done done) = 0;
  // No more will be written; what the peer still sends can be read. `keep` is what this lives in.
  virtual void end_writing(std::shared_ptr<void> keep) = 0;
  virtual void close() = 0;
};

std::unique_ptr<Wire> plain_wire(boost::asio::ip::tcp::socket socket);
std::unique_ptr<Wire> tls_wire(boost::asio::ip::tcp::socket socket, boost::asio::ssl::context& context);

}  // namespace shoal
