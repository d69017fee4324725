// lnm_3_array for place and route: inputs from a shift register, outputs to registers and one XOR.
`default_nettype none

module lnm_3_array_harness (
    input  wire clk,
    input  wire serial_in,
    output reg  serial_out
);
    reg  [21-1:0] chain;
    wire [21:0] longer = {chain, serial_in};
    wire [28-1:0] results;
    reg  [28-1:0] kept;

    lnm_3_array dut (.clk(clk), .rst(chain[0:0]), .clear(chain[1:1]), .s_axis_tvalid(chain[2:2]), .s_axis_tready(results[0:0]), .s_axis_tdata(chain[18:3]), .s_axis_tlast(chain[19:19]), .m_axis_tvalid(results[1:1]), .m_axis_tready(chain[20:20]), .m_axis_tdata(results[25:2]), .m_axis_tlast(results[26:26]), .tlast_error(results[27:27]));

    always @(posedge clk) begin
        chain      <= longer[21-1:0];
        kept       <= results;
        serial_out <= ^kept ^ longer[21];
    end
endmodule

`default_nettype wire
