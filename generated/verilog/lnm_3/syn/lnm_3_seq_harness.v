// lnm_3_seq for place and route: inputs from a shift register, outputs to registers and one XOR.
`default_nettype none

module lnm_3_seq_harness (
    input  wire clk,
    input  wire serial_in,
    output reg  serial_out
);
    reg  [35-1:0] chain;
    wire [35:0] longer = {chain, serial_in};
    wire [19-1:0] results;
    reg  [19-1:0] kept;

    lnm_3_seq dut (.clk(clk), .rst(chain[0:0]), .in_valid(chain[1:1]), .in_ready(results[0:0]), .in_v(chain[17:2]), .in_x(chain[33:18]), .out_valid(results[1:1]), .out_ready(chain[34:34]), .out_spike(results[2:2]), .out_v(results[18:3]));

    always @(posedge clk) begin
        chain      <= longer[35-1:0];
        kept       <= results;
        serial_out <= ^kept ^ longer[35];
    end
endmodule

`default_nettype wire
